/** A native VM from the outside: up, the same as a QEMU VM to its lab, frozen and thawed over QMP, and gone without a trace. */
import { readFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterEach, expect, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { takeDown } from '../../../lab/down.ts';
import { commandAt } from '../../../lab/exec.ts';
import { FREEZER_CGROUPS, nativeCgroup, planLab, planVms, qmpSockets } from '../../../lab/plan.ts';
import { labStatus } from '../../../lab/status.ts';
import { bringUp } from '../../../lab/up.ts';
import { buildTemplate } from '../../../template/build.ts';
import { cacheDirectory, listTemplates } from '../../../template/store.ts';
import { leftovers } from './fixtures/leftovers.ts';

const cache = cacheDirectory(process.env);
const lab = planLab('labnative', cache);
const source = join(import.meta.dirname, '../../..');
const silent = () => {};

afterEach(() => takeDown(lab, silent));

test('a native VM has the addresses, the agent and the power switch of a VM, and leaves nothing', {
  timeout: 300_000,
}, async () => {
  if (!(await listTemplates(cache)).some(({ name }) => name === 'default'))
    await buildTemplate({ cache, name: 'default', include: [], source, report: silent });
  const vms = planVms(lab, ['a'], 512);
  const signal = AbortSignal.timeout(120_000);
  const state = await bringUp({ lab, vms, source, services: false, native: true, report: silent, signal });
  const run = (where: string, ...command: string[]) => exec(commandAt(lab, state, where, command));

  await run('client', 'ping', '-c', '1', '-W', '5', '10.77.0.11');
  await run('client', 'ping', '-c', '1', '-W', '5', 'fd77::11');
  const line =
    'hostname; systemctl is-system-running --wait; cat /proc/1/comm; cat /sys/class/net/eth0/address';
  const { stdout } = await run('vm:a', line);
  expect(stdout.split('\n')).toEqual(['a', 'running', 'systemd', '52:54:00:77:00:01']);
  await expect(run('vm:a', 'date --set @0')).rejects.toThrow('exited with 1'); // the clock is the host's
  await expect(run('vm:a', 'echo 1 > /proc/sys/vm/drop_caches')).rejects.toThrow(/Read-only|exited with/);
  expect(labStatus(lab)).toMatchObject({ accel: 'native', vms: [{ name: 'a', running: true }] });

  const [vm] = vms;
  const power = await openQmp(vm ? qmpSockets(vm)[1] : '');
  const frozen = () => readFile(join(nativeCgroup(lab, 'a'), 'cgroup.events'), 'utf8');
  await power('stop');
  expect(await power('query-status')).toMatchObject({ status: 'paused', running: false });
  expect(await frozen()).toContain('frozen 1');
  await power('cont');
  expect(await power('query-status')).toMatchObject({ status: 'running', running: true });
  expect(await frozen()).toContain('frozen 0');
  await expect(power('balloon')).rejects.toThrow('has not been found');
  await power('stop'); // down must end what is frozen, too

  const pids = (await readFile(join(nativeCgroup(lab, 'a'), 'cgroup.procs'), 'utf8'))
    .split('\n')
    .filter(Boolean);
  await takeDown(lab, silent);
  expect(await leftovers(lab, [...state.processes.map(({ pid }) => pid), ...pids.map(Number)])).toEqual([]);
  expect((await exec(['ls', FREEZER_CGROUPS])).stdout).not.toContain(lab.cgroup);
});

/** A client that sends one command after the other. */
async function openQmp(path: string): Promise<(command: string) => Promise<object>> {
  const socket = connect(path);
  const lines = createInterface({ input: socket })[Symbol.asyncIterator]();
  const next = async () => JSON.parse((await lines.next()).value as string) as Record<string, unknown>;
  expect(await next()).toHaveProperty('QMP');
  const send = async (execute: string) => {
    socket.write(`${JSON.stringify({ execute, id: 1 })}\n`);
    for (;;) {
      const answer = await next();
      if ('error' in answer) throw new Error((answer['error'] as { desc: string }).desc);
      if ('return' in answer) return answer['return'] as object;
    }
  };
  await send('qmp_capabilities');
  return send;
}
