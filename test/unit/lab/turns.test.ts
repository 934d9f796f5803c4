import { setImmediate as soon } from 'node:timers/promises';
import { expect, test } from 'vitest';
import { inTurns } from '../../../lab/turns.ts';

/** Work that ends when it is told to. */
function gate() {
  const { promise, resolve, reject } = Promise.withResolvers<void>();
  return { promise, open: () => resolve(), fail: () => reject(new Error('no')) };
}

const noLingering = async () => {};

test('as many work at once as there are places, and who fails leaves its place too', async () => {
  const turns = inTurns(2);
  const gates = [gate(), gate(), gate(), gate()];
  const begun: number[] = [];
  const all = gates.map(({ promise }, index) =>
    turns(async () => {
      begun.push(index);
      await promise;
    }, noLingering),
  );
  await soon();
  expect(begun).toEqual([0, 1]);
  gates[1]?.fail();
  await expect(all[1]).rejects.toThrow('no');
  await soon();
  expect(begun).toEqual([0, 1, 2]);
  for (const { open } of gates) open();
  await Promise.all([all[0], all[2], all[3]]);
  expect(begun).toEqual([0, 1, 2, 3]);
});

test('a place is kept after the work only while somebody waits for it', async () => {
  const turns = inTurns(1);
  const lingered: string[] = [];
  const work = (name: string) =>
    turns(
      async () => {},
      async () => void lingered.push(name),
    );
  await Promise.all([work('first'), work('last')]);
  await work('alone');
  expect(lingered).toEqual(['first']);
});
