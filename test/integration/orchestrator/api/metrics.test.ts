import { readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { parse } from 'yaml';
import { SeamlessError } from '../../../../common/errors.ts';
import { synWake } from '../../../../orchestrator/vm/wake.ts';
import { metricsOf, type Served, serve } from './served.ts';

const ROOT = join(import.meta.dirname, '../../../..');

test('metrics tell states, durations by step, wakes by cause, verdicts, failures and the memory saved', async () => {
  const served = await serve({ vms: { vm1: {}, vm2: {} } });
  const { driver } = served.vms.get('vm1') ?? expect.unreachable();
  await park(served, 'vm1');
  const parked = await metricsOf(served);
  expect(parked).toMatchObject({
    'seamless_vms{state="parked"}': 1,
    'seamless_vms{state="awake"}': 1,
    seamless_memory_saved_bytes: 90,
    'seamless_step_seconds_count{operation="park",step="flip"}': 1,
    'seamless_operation_seconds_count{operation="park",outcome="succeeded"}': 1,
  });
  const request = { source: '10.77.0.2', sourcePort: 51312, destination: '10.77.0.11', port: 22 };
  driver.wake(synWake({ ...request, vmName: 'vm1', mac: 'm', at: new Date() }));
  await driver.idle();
  const saga = served.journal.lastSaga('vm1', 'unpark') as string;
  const body = { verdict: 'false', because: [], cause: 'syn', rule: 'connection.request' };
  served.journal.append([{ vm: 'vm1', saga, event: 'wakeJudged', body }]);
  expect(await metricsOf(served)).toMatchObject({
    'seamless_vms{state="awake"}': 2,
    seamless_memory_saved_bytes: 0,
    seamless_first_packet_wait_seconds_count: 1,
    'seamless_wakes_total{cause="syn"}': 1,
    'seamless_wake_verdicts_total{verdict="false"}': 1,
    'seamless_false_wakes_total{rule="connection.request"}': 1,
  });
});

test('a park that fails is counted by its code', async () => {
  const served = await serve();
  const { world } = served.vms.get('vm1') ?? expect.unreachable();
  world.fault = (_call, name) => {
    if (name === 'vmAgent.checkpoint') throw new SeamlessError('CHECKPOINT_FAILED', 'no');
  };
  await park(served, 'vm1');
  expect(await metricsOf(served)).toMatchObject({
    'seamless_failures_total{operation="park",code="CHECKPOINT_FAILED"}': 1,
    'seamless_operation_seconds_count{operation="park",outcome="unwound"}': 1,
  });
});

test('what parked VMs save is known again after a restart', async () => {
  const served = await serve();
  await park(served, 'vm1');
  await served.restart();
  expect(await metricsOf(served)).toMatchObject({ seamless_memory_saved_bytes: 90 });
});

test('every metric that the dashboard and the alerts name exists', async () => {
  const served = await serve();
  const text = await served.client.text('/metrics');
  const known = new Set([...text.matchAll(/^# TYPE (\w+) /gm)].map(([, name]) => name));
  const dashboard = JSON.parse(readFileSync(join(ROOT, 'packaging/grafana/seamless.json'), 'utf8'));
  const rules = parse(readFileSync(join(ROOT, 'packaging/prometheus/seamless.rules.yml'), 'utf8'));
  const expressions: string[] = [
    ...dashboard.panels.flatMap(({ targets }: { targets: { expr: string }[] }) =>
      targets.map(({ expr }) => expr),
    ),
    ...rules.groups.flatMap((group: { rules: { expr: string }[] }) => group.rules.map(({ expr }) => expr)),
  ];
  const named = expressions.flatMap((text) => text.match(/\b(seamless|nodejs|process)_\w+/g) ?? []);
  expect(named.length).toBeGreaterThan(20);
  const missing = named.filter(
    (name) => !known.has(name) && !known.has(name.replace(/_(bucket|count|sum)$/, '')),
  );
  expect(missing).toEqual([]);
  // And none that we make is forgotten there.
  const shown = new Set(named.map((name) => name.replace(/_(bucket|count|sum)$/, '')));
  expect([...known].filter((name) => name?.startsWith('seamless_') && !shown.has(name))).toEqual([]);
});

async function park({ client, vms }: Served, name: string): Promise<void> {
  await client.post(`/v1/vms/${name}/park`);
  await vms.get(name)?.driver.idle();
}
