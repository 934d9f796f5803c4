import { expect, test } from 'vitest';
import { portsLeft } from '../../../../orchestrator/network/ports-left.ts';

function world(againMs?: number) {
  const listeners: (() => void)[] = [];
  const tried: string[] = [];
  let outcome: Promise<void> = Promise.resolve();
  const left = portsLeft(
    { onUp: (listener) => void listeners.push(listener) },
    (port) => {
      tried.push(port);
      return outcome;
    },
    againMs,
  );
  return {
    left,
    tried,
    answer: (next: Promise<void>) => {
      outcome = next;
    },
    back: () => {
      for (const listener of listeners) listener();
    },
  };
}

test('a port that could not be unplugged is unplugged once its host is back', async () => {
  const { left, tried, answer, back } = world();
  answer(Promise.reject(new Error('away')));
  await expect(left.unplug('sk-vm1')).rejects.toThrow('away');
  answer(Promise.resolve());
  back();
  await expect.poll(() => tried).toHaveLength(2);
  await left.settled('sk-vm1');
  back();
  await left.settled('sk-vm1');
  expect(tried).toEqual(['sk-vm1', 'sk-vm1']);
});

test('a port that a new sink is about to use is left alone when the host is back', async () => {
  const { left, tried, answer, back } = world();
  answer(Promise.reject(new Error('away')));
  await expect(left.unplug('sk-vm1')).rejects.toThrow('away');
  await left.settled('sk-vm1');
  back();
  expect(tried).toEqual(['sk-vm1']);
});

test('a new sink waits for the end of its port’s unplugging', async () => {
  const { left, answer } = world();
  const unplugging = Promise.withResolvers<void>();
  answer(unplugging.promise);
  const order: string[] = [];
  const done = left.unplug('sk-vm1').then(() => order.push('unplugged'));
  const settled = left.settled('sk-vm1').then(() => order.push('settled'));
  unplugging.resolve();
  await Promise.all([done, settled]);
  expect(order).toEqual(['unplugged', 'settled']);
});

test('one that fails of the loss only when the host is back is tried again at once', async () => {
  const { left, tried, answer, back } = world();
  const unplugging = Promise.withResolvers<void>();
  answer(unplugging.promise);
  const done = left.unplug('sk-vm1').catch((error: Error) => error.message);
  back();
  answer(Promise.resolve());
  unplugging.reject(new Error('lost'));
  expect(await done).toBe('lost');
  await expect.poll(() => tried).toEqual(['sk-vm1', 'sk-vm1']);
});

test('one that failed of an interruption too short to be a loss is tried again by itself, until it is done', async () => {
  const { left, tried, answer } = world(5);
  answer(Promise.reject(new Error('no answer')));
  await expect(left.unplug('sk-vm1')).rejects.toThrow('no answer');
  await expect.poll(() => tried.length).toBeGreaterThan(2);
  answer(Promise.resolve());
  await left.settled('sk-vm1');
});
