import { expect, test } from 'vitest';
import { healthChecksOf, parkSettings, switchOffOf } from '../../../../orchestrator/idle/overlay.ts';
import { parsePolicy } from '../../../../orchestrator/idle/policy/document.ts';

const VM = {
  ports: { 'tcp/22': { syn: 'hold' }, 'tcp/80': { syn: 'accept' } },
  healthChecks: ['10.0.0.5'],
} as const;
const CONFIG = { ports: { ...VM.ports }, healthChecks: [...VM.healthChecks] };
const policyOf = (defaults: string) =>
  parsePolicy(`version: 1\ndefaults: { ${defaults} }\n`, 'p.yaml').policyFor({ name: 'vm1', host: 'hv' });

test('without a policy, and with one that says nothing of it, a VM is parked as it is configured', () => {
  for (const policy of [null, policyOf('window: 15m')]) {
    expect(parkSettings(CONFIG, policy)).toEqual({
      connections: { acceptPorts: [80], healthChecks: ['10.0.0.5'] },
      programs: [],
    });
    expect(switchOffOf(policy)).toBeUndefined();
  }
});

test('the policy’s ports are laid over the configured ones, one by one', () => {
  const { connections } = parkSettings(CONFIG, policyOf('syn: { tcp/80: hold, tcp/443: accept }'));
  expect(connections.acceptPorts).toEqual([443]);
});

test('the policy’s health checks, programs and switch-off method take the place of the configured ones', () => {
  const policy = policyOf('healthChecks: [10.9.0.0/24, "fd00::1"], gateways: [worker], switchOff: disk');
  expect(parkSettings(CONFIG, policy)).toMatchObject({
    connections: { healthChecks: ['10.9.0.0/24', 'fd00::1'] },
    programs: ['worker'],
  });
  expect(healthChecksOf(CONFIG, policyOf('healthChecks: []'))).toEqual([]);
  expect(switchOffOf(policy)).toBe('disk');
});

test('what is more than a sink has room for is refused', () => {
  const many = Array.from({ length: 65 }, (_, index) => `tcp/${index + 1}: accept`).join(', ');
  expect(() => parkSettings(CONFIG, policyOf(`syn: { ${many} }`))).toThrow('Expected at most 64 acceptPorts');
});
