import { expect, test } from 'vitest';
import { planLab, planVms } from '../../../lab/plan.ts';

const lab = planLab(undefined, '/cache');

test('VMs get consecutive addresses, in both families and on both networks', () => {
  const [first, second] = planVms(lab, ['vm1', 'web:apache'], 1024);
  expect(first).toMatchObject({
    name: 'vm1',
    template: 'default',
    cgroup: '/sys/fs/cgroup/memory/seamless/vm1',
    production: {
      mac: '52:54:00:77:00:01',
      addresses: ['10.77.0.11/24', 'fd77::11/64'],
      tap: 'tap-vm1',
      bridge: 'qbr-vm1',
      inner: 'qvb-vm1',
      port: 'qvo-vm1',
    },
    management: { mac: '52:54:00:78:00:01', address: '10.78.0.11', tap: 'mtap-vm1' },
  });
  expect(second).toMatchObject({
    template: 'apache',
    production: { mac: '52:54:00:77:00:02', addresses: ['10.77.0.12/24', 'fd77::12/64'] },
    management: { address: '10.78.0.12' },
  });
});

test('no interface name is longer than Linux takes', () => {
  for (const { production, management } of planVms(lab, ['abcdefghij'], 1024))
    for (const name of [production.tap, production.bridge, production.inner, production.port, management.tap])
      expect(name.length, name).toBeLessThanOrEqual(15);
});

test('two labs share nothing but the templates', () => {
  const other = planLab('other', '/cache');
  expect(lab).toMatchObject({
    runDirectory: '/run/seamless-lab',
    cgroup: 'seamless',
    namespaces: { hv: 'sl-hv' },
  });
  expect(other).toMatchObject({
    runDirectory: '/run/seamless-lab-other',
    diskDirectory: '/cache/lab-other',
    cgroup: 'seamless-other',
    namespaces: { hv: 'other-hv' },
  });
});

test.each([[['Vm1']], [['averylongname']], [['vm1:a:b']], [['../x']], [['']], [['vm1', 'vm1']]])(
  'the VMs %j are refused',
  (specs) => {
    expect(() => planVms(lab, specs, 1024)).toThrow(/expected/);
  },
);

test('a lab’s name that could lead elsewhere is refused', () => {
  for (const name of ['../..', 'a b', 'UP', 'averylongname'])
    expect(() => planLab(name, '/cache')).toThrow(/SEAMLESS_LAB/);
});
