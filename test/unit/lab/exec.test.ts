import { expect, test } from 'vitest';
import { commandAt } from '../../../lab/exec.ts';
import { planLab, planVms } from '../../../lab/plan.ts';
import type { LabState } from '../../../lab/state.ts';

const lab = planLab(undefined, '/cache');
const state: LabState = {
  format: 1,
  phase: 'up',
  accel: 'tcg',
  vms: planVms(lab, ['vm1'], 1024),
  processes: [],
};

test('a command on a host runs in its network namespace, as it is', () => {
  expect(commandAt(lab, state, 'client', ['echo', 'a b'])).toEqual([
    'nsenter',
    '--net=/run/netns/sl-client',
    '--',
    'echo',
    'a b',
  ]);
});

test('several arguments reach a VM as they were given; one alone is a line for its shell', () => {
  expect(commandAt(lab, state, 'vm:vm1', ['printf', '%s', "it's a"]).slice(-5)).toEqual([
    'vm1.mgmt',
    '--',
    'printf',
    '%s',
    `'it'\\''s a'`,
  ]);
  expect(commandAt(lab, state, 'vm:vm1', ['uptime | cat']).slice(-1)).toEqual(['uptime | cat']);
});

test('an unknown place is refused with those that there are', () => {
  expect(() => commandAt(lab, state, 'vm:vm2', ['true'])).toThrow(
    'expected one of client, hv, sink, mgmt, vm:vm1, got vm:vm2',
  );
});
