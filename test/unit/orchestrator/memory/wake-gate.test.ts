import { expect, test, vi } from 'vitest';
import { WakeGate } from '../../../../orchestrator/memory/wake-gate.ts';

const MiB = 1024 * 1024;
const needs = (mib: number) => async () => mib * MiB;

function setUp(availableMiB: number, boundMs?: number) {
  const host = { totalBytes: 1000 * MiB, availableBytes: availableMiB * MiB };
  const asked = vi.fn(async () => host);
  return {
    host,
    asked,
    gate: new WakeGate({ memory: asked, ...(boundMs === undefined ? {} : { boundMs }) }),
  };
}

test('a wake that is alone goes on at once, whatever the memory, and nothing is asked', async () => {
  const { gate, asked } = setUp(0);
  expect(await gate.enter('vm1', needs(500))).toBe(0);
  expect(asked).not.toHaveBeenCalled();
});

test('a second one goes on beside it when there is memory for both', async () => {
  const { gate } = setUp(900);
  await gate.enter('vm1', needs(200));
  await gate.enter('vm2', needs(200));
  expect(gate.waiting).toEqual([]);
});

test('those that must wait go on in their order, as memory comes free', async () => {
  const { gate } = setUp(100);
  const order: string[] = [];
  await gate.enter('vm1', needs(10));
  const others = ['vm2', 'vm3', 'vm4'].map((vm) => gate.enter(vm, needs(80)).then(() => order.push(vm)));
  await vi.waitUntil(() => gate.waiting.length === 3, { timeout: 1000, interval: 5 });
  expect(gate.waiting).toEqual(['vm2', 'vm3', 'vm4']);
  for (const [index, vm] of ['vm1', 'vm2', 'vm3'].entries()) {
    gate.done(vm);
    await vi.waitUntil(() => order.length === index + 1, { timeout: 2000, interval: 5 });
  }
  await Promise.all(others);
  expect(order).toEqual(['vm2', 'vm3', 'vm4']);
});

test('none waits longer than its bound', async () => {
  const { gate } = setUp(0, 150);
  await gate.enter('vm1', needs(0));
  expect(await gate.enter('vm2', needs(500))).toBeGreaterThan(140);
});

test('a host that can’t be asked delays a wake, and never refuses it', async () => {
  const gate = new WakeGate({ memory: () => Promise.reject(new Error('gone')), boundMs: 150 });
  await gate.enter('vm1', needs(0));
  await expect(gate.enter('vm2', () => Promise.reject(new Error('gone')))).resolves.toBeGreaterThan(140);
});
