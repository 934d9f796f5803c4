import { expect, test } from 'vitest';
import { orchestratorConfig, sinkAgentConfig, vmAgentConfig } from '../../../lab/config.ts';
import { planLab, planVms } from '../../../lab/plan.ts';

const lab = planLab('x', '/cache');
const vms = planVms(lab, ['vm1', 'vm2'], 1024);

test('the orchestrator is told each VM’s port, memory and agent', () => {
  const config = orchestratorConfig(lab, vms);
  expect(config.vms[1]).toMatchObject({
    name: 'vm2',
    port: 'qvo-vm2',
    tap: 'tap-vm2',
    qmpSocket: '/run/seamless-lab-x/vm2/qmp.sock',
    cgroup: '/sys/fs/cgroup/memory/seamless-x/vm2',
    agent: { address: '10.78.0.12', port: 7443 },
    sink: 'sink1',
    template: 'default',
  });
  expect(config.hosts.map(({ name, openflowSocket }) => [name, openflowSocket])).toEqual([
    ['hv', '/run/seamless-lab-x/ovs-hv/br-int.mgmt'],
    ['sink', '/run/seamless-lab-x/ovs-sink/br-int.mgmt'],
  ]);
});

test('what the orchestrator dials is what the agents listen on', () => {
  const config = orchestratorConfig(lab, vms);
  expect(config.sinks[0]?.agent).toMatchObject(sinkAgentConfig(lab).listen);
  for (const [index, vm] of vms.entries())
    expect(config.vms[index]?.agent).toMatchObject(vmAgentConfig(vm).listen);
});
