import { expect, test } from 'vitest';
import { diskTraffic } from '../../../vm-agent/disks.ts';

test('only whole disks are counted, each once', () => {
  const text = [
    ' 254       0 vda 100 0 800 10 50 0 4096 20 0 30 30 0 0 0 0 0 0',
    ' 254       1 vda1 100 0 800 10 50 0 4096 20 0 30 30 0 0 0 0 0 0',
    '   7       0 loop0 1 0 8 0 9 0 999 0 0 0 0 0 0 0 0 0 0',
    ' 259       0 nvme0n1 1 0 8 0 9 0 2 0 0 0 0 0 0 0 0 0 0',
  ].join('\n');
  expect(diskTraffic(text)).toEqual({ readBytes: (800 + 8) * 512, writtenBytes: (4096 + 2) * 512 });
});
