/** The whole service with many registered VMs, as a process of its own, and what it uses. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { openSync, readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { SeamlessError } from '../../common/errors.ts';
import { issueCertificate, makeAuthority } from '../../lab/pki.ts';
import { apiClient } from '../../orchestrator/cli/client.ts';

export interface ServiceOptions {
  folder: string;
  vms: number;
  /** What the QMP sockets of the VMs are; the first VM has one of its own. */
  qmp: { first: string; others: string };
  webhookSecret: string;
  port: number;
}

export interface Service {
  socket: string;
  /** From the process's beginning until it answers. */
  startMs: number;
  rssMiB(): number;
  /** What it has used so far of a processor. */
  cpuMs(): number;
  /** For how long its main thread has waited for a processor so far: what others on this machine have cost it. */
  waitedMs(): number;
  close(): Promise<void>;
}

const START_MS = 120_000;

export async function startService(options: ServiceOptions): Promise<Service> {
  const { folder } = options;
  const socket = join(folder, 'seamless.sock');
  const configFile = await writeConfig(options, socket);
  const main = join(import.meta.dirname, '../../orchestrator/main.ts');
  // SEAMLESS_BENCH_NODE="--cpu-prof --cpu-prof-dir=/tmp/x" says where the time goes.
  const flags = process.env['SEAMLESS_BENCH_NODE']?.split(' ') ?? [];
  const argv = ['--disable-warning=ExperimentalWarning', ...flags, main, '--config', configFile];
  const started = performance.now();
  // It complains of the QEMU that goes and comes, as it should.
  const log = join(folder, 'service.log');
  const child = spawn(process.execPath, argv, { stdio: ['ignore', 'ignore', openSync(log, 'a')] });
  const ended = once(child, 'exit');
  const kill = () => child.kill('SIGKILL');
  process.once('exit', kill);
  const close = async () => {
    child.kill('SIGTERM');
    await ended;
    process.off('exit', kill);
  };
  const proc = (file: string) => readFileSync(`/proc/${child.pid}/${file}`, 'utf8');
  try {
    const answers = () =>
      apiClient(socket)
        .get('/livez')
        .then(
          () => true,
          () => false,
        );
    await until(answers, START_MS, 'the service');
  } catch (thrown) {
    await close();
    process.stderr.write(readFileSync(log, 'utf8').slice(-2000));
    throw thrown;
  }
  return {
    socket,
    startMs: Math.round(performance.now() - started),
    rssMiB: () => Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(proc('status'))?.[1]) / 1024),
    cpuMs() {
      const stat = proc('stat');
      const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
      return (Number(fields[11]) + Number(fields[12])) * 10;
    },
    // Nanoseconds on a processor, nanoseconds waiting for one, slices.
    waitedMs: () => Number(proc(`task/${child.pid}/schedstat`).split(' ')[1]) / 1e6,
    close,
  };
}

export function vmName(index: number): string {
  return `vm${String(index).padStart(5, '0')}`;
}

export async function until(
  check: () => boolean | Promise<boolean>,
  withinMs: number,
  what: string,
): Promise<void> {
  const end = performance.now() + withinMs;
  while (!(await check())) {
    if (performance.now() > end) throw new SeamlessError('TIMEOUT', `Expected ${what} within ${withinMs} ms`);
    await delay(20);
  }
}

async function writeConfig(options: ServiceOptions, socket: string): Promise<string> {
  const { folder, vms, qmp, webhookSecret, port } = options;
  await makeAuthority(folder);
  const { ca, cert, key } = await issueCertificate(folder, 'orchestrator', 'orchestrator', ['127.0.0.1']);
  const path = (name: string) => join(folder, name);
  const agent = { address: '127.0.0.1', port: 1, serverName: 'vm' };
  const mac = (index: number) =>
    `02:00:00:${[16, 8, 0].map((shift) => ((index >> shift) & 255).toString(16).padStart(2, '0')).join(':')}`;
  const vm = (index: number) => ({
    ...{ name: vmName(index), host: 'hv', sink: 'sink1', template: 'debian', agent, mac: mac(index) },
    ...{ addresses: ['192.0.2.1/24'], port: `qvo${index}`, tunnelPort: 'vxlan0', tap: `tap${index}` },
    ...{ qmpSocket: index === 0 ? qmp.first : qmp.others, cgroup: path('cgroup') },
    labels: { tier: index % 2 ? 'web' : 'db' },
  });
  const host = { name: 'hv', transport: { type: 'local' }, bridge: 'br-int' };
  const config = {
    ...{ stateDir: path('state'), socket, tls: { ca, cert, key }, logLevel: 'error' },
    listen: { address: '127.0.0.1', port, tls: { cert, key } },
    webhooks: { signers: [{ name: 'bench', secretFile: path('secret') }] },
    hosts: [{ ...host, openflowSocket: path('of'), ovsdbSocket: path('db'), switchControl: path('ctl') }],
    sinks: [{ name: 'sink1', host: 'hv', agent: { ...agent, serverName: 'sink1' }, tunnelPort: 'vxlan0' }],
    vms: Array.from({ length: vms }, (_, index) => vm(index)),
  };
  writeFileSync(path('secret'), webhookSecret, { mode: 0o600 });
  writeFileSync(path('config.json'), JSON.stringify(config));
  return path('config.json');
}
