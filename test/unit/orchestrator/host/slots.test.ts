import { expect, test } from 'vitest';
import { Slots } from '../../../../orchestrator/host/ssh/slots.ts';

test('no more than so many have a slot at once, and all get one in order', async () => {
  const slots = new Slots(2);
  const order: number[] = [];
  let most = 0;
  let now = 0;
  const work = async (index: number) => {
    const giveBack = await slots.take();
    order.push(index);
    most = Math.max(most, ++now);
    await new Promise(setImmediate);
    now--;
    giveBack();
  };
  await Promise.all([0, 1, 2, 3, 4, 5].map(work));
  expect(most).toBe(2);
  expect(order).toEqual([0, 1, 2, 3, 4, 5]);
});

test('who gives up leaves the queue, and takes no slot with him', async () => {
  const slots = new Slots(1);
  const giveBack = await slots.take();
  const controller = new AbortController();
  const givenUp = slots.take(controller.signal);
  const next = slots.take();
  controller.abort(new Error('given up'));
  await expect(givenUp).rejects.toThrow('given up');
  giveBack();
  (await next)();
  await expect(slots.take()).resolves.toBeTypeOf('function');
  await expect(slots.take(AbortSignal.abort(new Error('too late')))).rejects.toThrow('too late');
});
