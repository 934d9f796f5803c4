import { expect, test } from 'vitest';
import { fitting } from '../../../bench/evaluation/room.ts';

test('what the machine has no memory or no disk for is left out, and why is said', () => {
  const said: string[] = [];
  const need = (size: number) => ({ memoryMiB: size, diskMiB: 2 * size });
  const room = { memoryMiB: 3000, diskMiB: 5000 };
  const left = fitting([1024, 2048, 2800, 4096], need, room, (size, why) => said.push(`${size}: ${why}`));
  expect(left).toEqual([1024, 2048]);
  expect(said).toEqual([
    '2800: it needs 5600 MiB of disk, 5000 are free',
    '4096: it needs 4096 MiB of memory, 3000 are free, and 8192 MiB of disk, 5000 are free',
  ]);
});
