/**
 * How soon an alarm is answered: the whole service with ten thousand registered VMs takes signed webhooks of aodh by TLS, and plain ones
 * by the socket, each for another VM. An answer is 202 with the operation, which is then in the journal, on the disk. The parks themselves
 * end at once, since no VM is there: what is measured is the service's surface.
 * Run by `scripts/bench webhook [--vms N] [--rate N] [--seconds N] [--quick] [--json]`; exits 1 when the goal is missed.
 */
import { spawn } from 'node:child_process';
import { randomBytes } from 'node:crypto';
import { once } from 'node:events';
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from 'node:fs';
import {
  Agent as HttpAgent,
  request as httpRequest,
  type IncomingMessage,
  type RequestOptions,
} from 'node:http';
import { Agent as HttpsAgent, request as httpsRequest } from 'node:https';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { SeamlessError } from '../common/errors.ts';
import { issueCertificate, makeAuthority } from '../lab/pki.ts';
import { apiClient } from '../orchestrator/cli/client.ts';
import { parseSecret, sign } from '../orchestrator/webhooks/signature.ts';

const GOAL_P99_MS = 50;
const PORT = 18_444;
const PATH = '/v1/webhooks/aodh?action=park';

const { values: options } = parseArgs({
  options: {
    vms: { type: 'string', default: '10000' },
    rate: { type: 'string', default: '20' },
    seconds: { type: 'string', default: '30' },
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const rate = Number(options.rate);
const seconds = options.quick ? 5 : Number(options.seconds);
const vmCount = Number(options.vms);

type Open = (options: RequestOptions) => ReturnType<typeof httpRequest>;

const folder = mkdtempSync(join(tmpdir(), 'seamless-bench-webhook-'));
const socket = join(folder, 'seamless.sock');
const secret = `whsec_${randomBytes(32).toString('base64')}`;
const service = await startOrchestrator();
try {
  await until(
    () =>
      apiClient(socket)
        .get('/livez')
        .then(
          () => true,
          () => false,
        ),
    60_000,
    'the service',
  );
  const rows = [
    { way: 'signed, by TLS', ...(await load(byTls(), 0)) },
    { way: 'by the Unix socket', ...(await load(bySocket(), rate * seconds)) },
  ];
  report(rows);
} finally {
  service.kill('SIGTERM');
  await once(service, 'exit');
  rmSync(folder, { recursive: true, force: true });
}

function serverId(index: number): string {
  return `00000000-0000-4000-8000-${index.toString(16).padStart(12, '0')}`;
}

async function startOrchestrator() {
  await makeAuthority(folder);
  const { ca, cert, key } = await issueCertificate(folder, 'orchestrator', 'orchestrator', ['127.0.0.1']);
  const path = (name: string) => join(folder, name);
  const agent = { address: '127.0.0.1', port: 1, serverName: 'vm' };
  const vms = Array.from({ length: vmCount }, (_, index) => ({
    ...{
      name: `vm${index}`,
      host: 'hv',
      sink: 'sink1',
      template: 'debian',
      agent,
      addresses: ['192.0.2.1/24'],
    },
    mac: `02:00:00:${[16, 8, 0].map((shift) => ((index >> shift) & 255).toString(16).padStart(2, '0')).join(':')}`,
    ...{
      port: `qvo${index}`,
      tunnelPort: 'vxlan0',
      tap: `tap${index}`,
      qmpSocket: path('none'),
      cgroup: path('none'),
    },
    openstack: { serverId: serverId(index) },
  }));
  const host = { name: 'hv', transport: { type: 'local' }, bridge: 'br-int' };
  const config = {
    ...{ stateDir: path('state'), socket, tls: { ca, cert, key }, logLevel: 'error' },
    listen: { address: '127.0.0.1', port: PORT, tls: { cert, key } },
    // So that no hypervisor is watched; nobody is asked before a park has got that far.
    ...{
      switchOff: 'nova',
      openstack: { authUrl: 'http://127.0.0.1:1/v3', credential: { id: 'x', secretFile: path('secret') } },
    },
    webhooks: { signers: [{ name: 'aodh', secretFile: path('secret') }] },
    hosts: [{ ...host, openflowSocket: path('of'), ovsdbSocket: path('db'), switchControl: path('ctl') }],
    sinks: [{ name: 'sink1', host: 'hv', agent: { ...agent, serverName: 'sink1' }, tunnelPort: 'vxlan0' }],
    vms,
  };
  writeFileSync(path('secret'), secret, { mode: 0o600 });
  writeFileSync(path('config.json'), JSON.stringify(config));
  const main = join(import.meta.dirname, '../orchestrator/main.ts');
  const argv = ['--disable-warning=ExperimentalWarning', main, '--config', path('config.json')];
  return spawn(process.execPath, argv, { stdio: ['ignore', 'ignore', 'inherit'] });
}

function bySocket(): Open {
  const agent = new HttpAgent({ keepAlive: true, maxSockets: 64 });
  return (more) => httpRequest({ agent, socketPath: socket, ...more });
}

function byTls(): Open {
  const ca = readFileSync(join(folder, 'ca.crt'));
  const agent = new HttpsAgent({ keepAlive: true, maxSockets: 64 });
  return (more) => httpsRequest({ agent, host: '127.0.0.1', port: PORT, ca, ...more });
}

/** At a fixed rate, whatever the answers take. */
async function load(
  open: Open,
  first: number,
): Promise<{ p50Ms: number; p99Ms: number; mostMs: number; refused: string[] }> {
  const took: number[] = [];
  const refused = new Set<string>();
  const all: Promise<void>[] = [];
  const began = performance.now();
  for (let sent = 0; sent < rate * seconds; ) {
    const due = Math.floor(((performance.now() - began) / 1000) * rate);
    for (; sent < due; sent += 1) {
      const start = performance.now();
      const asked = post(open, (first + sent) % vmCount).then(
        () => void took.push(performance.now() - start),
        (error: Error) => void refused.add(error.message),
      );
      all.push(asked);
    }
    await delay(1);
  }
  await Promise.all(all);
  took.sort((a, b) => a - b);
  const at = (share: number) => Math.round((took[Math.floor((took.length - 1) * share)] ?? NaN) * 10) / 10;
  return { p50Ms: at(0.5), p99Ms: at(0.99), mostMs: at(1), refused: [...refused] };
}

async function post(open: Open, vm: number): Promise<void> {
  const traits = [['instance_id', 1, serverId(vm)]];
  const reason = { type: 'event', event: { event_type: 'idle', traits } };
  const body = JSON.stringify({
    alarm_id: 'a',
    alarm_name: 'idle',
    previous: 'ok',
    current: 'alarm',
    reason_data: reason,
  });
  const id = `msg_${randomBytes(8).toString('hex')}`;
  const timestamp = Math.floor(Date.now() / 1000);
  const headers = {
    ...{ 'content-type': 'application/json', 'webhook-id': id, 'webhook-timestamp': String(timestamp) },
    'webhook-signature': sign(parseSecret('aodh', secret), id, timestamp, body),
  };
  const request = open({ path: PATH, method: 'POST', headers }).end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  if (response.statusCode === 202) return;
  throw new SeamlessError(
    'INTERNAL',
    `${response.statusCode}: ${Buffer.concat(chunks).toString('utf8').slice(0, 200)}`,
  );
}

async function until(check: () => Promise<boolean>, withinMs: number, what: string): Promise<void> {
  const end = performance.now() + withinMs;
  while (!(await check())) {
    if (performance.now() > end) throw new SeamlessError('TIMEOUT', `Expected ${what} within ${withinMs} ms`);
    await delay(20);
  }
}

function report(rows: ({ way: string } & Awaited<ReturnType<typeof load>>)[]): void {
  if (options.json) {
    process.stdout.write(`${JSON.stringify({ vms: vmCount, rate, seconds, rows })}\n`);
  } else {
    for (const { way, p50Ms, p99Ms, mostMs, refused } of rows) {
      const more = refused.length > 0 ? `; refused: ${refused.slice(0, 3).join(', ')}` : '';
      process.stdout.write(
        `${vmCount} VMs, ${rate} webhooks/s for ${seconds} s, ${way}: 202 after p50 ${p50Ms} ms, p99 ${p99Ms} ms, most ${mostMs} ms${more}\n`,
      );
    }
  }
  const missed = rows.filter(({ p99Ms, refused }) => !(p99Ms < GOAL_P99_MS) || refused.length > 0);
  if (missed.length === 0) return;
  process.stderr.write(`The goal is missed: ${missed.map(({ way }) => way).join(', ')}\n`);
  process.exitCode = 1;
}
