/** A lab of its own beside whatever is up, with the smallest VM; taken down from the states a crash leaves. */
import { join } from 'node:path';
import { afterEach, expect, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { takeDown } from '../../../lab/down.ts';
import { commandAt } from '../../../lab/exec.ts';
import { planLab, planVms } from '../../../lab/plan.ts';
import { startProcess } from '../../../lab/processes.ts';
import { readState } from '../../../lab/state.ts';
import { labStatus } from '../../../lab/status.ts';
import { bringUp } from '../../../lab/up.ts';
import { buildTemplate } from '../../../template/build.ts';
import { cacheDirectory, listTemplates } from '../../../template/store.ts';
import { leftovers } from './fixtures/leftovers.ts';

const cache = cacheDirectory(process.env);
const lab = planLab('labtest', cache);
const source = join(import.meta.dirname, '../../..');
const silent = () => {};

afterEach(() => takeDown(lab, silent));

test('the lab comes up, its hosts and VM reach each other, and down leaves nothing', {
  timeout: 900_000,
}, async () => {
  if (!(await listTemplates(cache)).some(({ name }) => name === 'default'))
    await buildTemplate({ cache, name: 'default', include: [], source, report: silent });
  const vms = planVms(lab, ['a'], 512);
  const signal = AbortSignal.timeout(240_000);
  const state = await bringUp({ lab, vms, source, services: false, report: silent, signal });
  const run = (where: string, ...command: string[]) => exec(commandAt(lab, state, where, command));

  await run('client', 'ping', '-c', '1', '-W', '5', '10.77.0.11');
  await run('client', 'ping', '-c', '1', '-W', '5', 'fd77::11');
  await run('hv', 'ping', '-c', '1', '-W', '5', '10.79.0.2');
  await run('sink', 'ping', '-c', '1', '-W', '5', '10.78.0.11');
  // Through the tunnel: an address on the sink server's br-int stands for a sink.
  await run('sink', 'ip', 'addr', 'add', '10.77.0.200/24', 'dev', 'br-int');
  await run('client', 'ping', '-c', '1', '-W', '5', '10.77.0.200');
  // A TCP stream through the userspace datapath with right checksums.
  const config = join(lab.runDirectory, 'ssh/config');
  const { stdout } = await run(
    'client',
    'ssh',
    '-F',
    config,
    'a',
    'hostname; systemctl is-system-running; seq 20000 | md5sum',
  );
  expect(stdout.split('\n').slice(0, 2)).toEqual(['a', 'running']);
  expect((await run('vm:a', 'grep', 'CapBnd', '/proc/self/status')).stdout).toMatch(/feffffff$/); // no CAP_SYS_RESOURCE
  expect(labStatus(lab).vms[0]).toMatchObject({ name: 'a', running: true });
  await expect(bringUp({ lab, vms, source, services: false, report: silent, signal })).rejects.toThrow(
    /up already/,
  );

  // As after a crash: a daemon is gone, and something the state does not know of runs in a namespace.
  const daemon = state.processes.find(({ name }) => name.startsWith('ovs-vswitchd'));
  process.kill(daemon?.pid ?? 0, 'SIGKILL');
  const stray = startProcess({
    name: 'stray',
    argv: ['sleep', '600'],
    netns: '/run/netns/labtest-sink',
    log: '/dev/null',
  });
  const pids = [...state.processes.map(({ pid }) => pid), stray.pid];
  await takeDown(lab, silent);
  expect(await leftovers(lab, pids)).toEqual([]);
});

test('an up that is interrupted half-way leaves nothing', { timeout: 120_000 }, async () => {
  const interrupt = new AbortController();
  const report = (line: string) => {
    if (line.startsWith('booting')) setTimeout(() => interrupt.abort(new Error('interrupted')), 500);
  };
  const vms = planVms(lab, ['a'], 512);
  await expect(
    bringUp({ lab, vms, source, services: false, report, signal: interrupt.signal }),
  ).rejects.toThrow('interrupted');
  expect(readState(lab)).toBeNull();
  expect(await leftovers(lab, [])).toEqual([]);
});

test('down of a lab that is not there does nothing, and says so by succeeding', async () => {
  await takeDown(lab, silent);
  await takeDown(lab, silent);
  expect(await leftovers(lab, [])).toEqual([]);
});
