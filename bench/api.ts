/**
 * The whole service with ten thousand registered VMs: how soon it answers, GET /v1/vms?limit=100 at 200 requests a second while
 * 500 event streams are open, and whether each stream gets each event. The VMs are awake; all their QEMUs are one socket here that
 * speaks QMP's greeting, since what is measured is the service's surface. By the Unix socket, and by TLS with a token.
 * Then webhooks, signed, each for another VM: how soon its park is in the journal and the 202 is back.
 * Run by `scripts/bench api [--vms N] [--rate N] [--streams N] [--seconds N] [--quick] [--json]`; exits 1 when a goal is missed.
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
import { createServer, type Server, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { SeamlessError } from '../common/errors.ts';
import { issueCertificate, makeAuthority } from '../lab/pki.ts';
import { apiClient } from '../orchestrator/cli/client.ts';
import { parseSecret, sign } from '../orchestrator/webhooks/signature.ts';

const GOALS = { p99Ms: 50, streams: 500 };
const WEBHOOKS_PER_SECOND = 5;
const PORT = 18_443;

const { values: options } = parseArgs({
  options: {
    vms: { type: 'string', default: '10000' },
    rate: { type: 'string', default: '200' },
    streams: { type: 'string', default: '500' },
    seconds: { type: 'string', default: '20' },
    quick: { type: 'boolean', default: false },
    json: { type: 'boolean', default: false },
  },
});
const rate = Number(options.rate);
const seconds = options.quick ? 5 : Number(options.seconds);
const vmCount = Number(options.vms);
const streamCount = Number(options.streams);

/** How a request goes out. */
type Open = (options: RequestOptions) => ReturnType<typeof httpRequest>;

const webhookSecret = `whsec_${randomBytes(32).toString('base64')}`;
const folder = mkdtempSync(join(tmpdir(), 'seamless-bench-api-'));
const socket = join(folder, 'seamless.sock');
const qemu = await startQemus(join(folder, 'qmp.sock'));
const flaky = await startQemus(join(folder, 'flaky.sock'));
const service = await startOrchestrator();
process.once('exit', () => service.kill('SIGKILL'));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
try {
  const startMs = await untilReady();
  const { secret } = await apiClient(socket).post<{ secret: string }>('/v1/tokens', {
    name: 'bench',
    scope: 'read',
  });
  await until(() => qemu.clients() + flaky.clients() >= vmCount, 60_000, 'every VM’s QMP connection');
  const ways: [string, Open][] = [
    ['unix socket', bySocket()],
    ['tls', byTls(secret)],
  ];
  const rows = [];
  for (const [way, open] of ways) {
    const streams = await Promise.all(Array.from({ length: streamCount }, () => follow(open)));
    const happening = makeEvents();
    const cpuBefore = cpuMs();
    const latency = await load(open);
    const cpuPercent = Math.round(((cpuMs() - cpuBefore) / seconds) * 0.1);
    const events = await happening.end();
    await until(
      () => streams.every(({ ids }) => ids.length >= events),
      10_000,
      'each event at each stream',
    ).catch(() => {});
    const least = Math.min(...streams.map(({ ids }) => ids.length));
    for (const stream of streams) stream.close();
    rows.push({ way, ...latency, cpuPercent, streams: streams.length, events, leastReceived: least });
  }
  const webhook = await webhooks(byTls(secret));
  report({
    vms: vmCount,
    rate,
    seconds,
    startMs,
    peakConnecting: qemu.peak(),
    rssMiB: rssMiB(),
    rows,
    webhook,
  });
} finally {
  service.kill('SIGTERM');
  await once(service, 'exit');
  await Promise.all([qemu.close(), flaky.close()]);
  rmSync(folder, { recursive: true, force: true });
}

async function startOrchestrator() {
  await makeAuthority(folder);
  const { ca, cert, key } = await issueCertificate(folder, 'orchestrator', 'orchestrator', ['127.0.0.1']);
  const path = (name: string) => join(folder, name);
  const agent = { address: '127.0.0.1', port: 1, serverName: 'vm' };
  const vms = Array.from({ length: vmCount }, (_, index) => ({
    ...{ name: `vm${String(index).padStart(5, '0')}`, host: 'hv', sink: 'sink1', template: 'debian', agent },
    mac: `02:00:00:${[16, 8, 0].map((shift) => ((index >> shift) & 255).toString(16).padStart(2, '0')).join(':')}`,
    ...{ addresses: ['192.0.2.1/24'], port: `qvo${index}`, tunnelPort: 'vxlan0', tap: `tap${index}` },
    ...{
      qmpSocket: index === 0 ? flaky.path : qemu.path,
      cgroup: path('cgroup'),
      labels: { tier: index % 2 ? 'web' : 'db' },
    },
  }));
  const config = {
    ...{ stateDir: path('state'), socket, tls: { ca, cert, key }, logLevel: 'error' },
    webhooks: { signers: [{ name: 'bench', secretFile: path('secret') }] },
    listen: { address: '127.0.0.1', port: PORT, tls: { cert, key } },
    hosts: [
      {
        ...{
          name: 'hv',
          transport: { type: 'local' },
          bridge: 'br-int',
          openflowSocket: path('br-int.mgmt'),
        },
        ...{ ovsdbSocket: path('db.sock'), switchControl: path('ovs-vswitchd.ctl') },
      },
    ],
    sinks: [{ name: 'sink1', host: 'hv', agent: { ...agent, serverName: 'sink1' }, tunnelPort: 'vxlan0' }],
    vms,
  };
  writeFileSync(path('secret'), webhookSecret, { mode: 0o600 });
  writeFileSync(path('config.json'), JSON.stringify(config));
  const main = join(import.meta.dirname, '../orchestrator/main.ts');
  const argv = ['--disable-warning=ExperimentalWarning', main, '--config', path('config.json')];
  return spawn(process.execPath, argv, { stdio: ['ignore', 'ignore', 'inherit'] });
}

async function untilReady(): Promise<number> {
  const started = performance.now();
  await until(
    async () =>
      (await apiClient(socket)
        .get('/livez')
        .catch(() => null)) !== null,
    60_000,
    'the service',
  );
  return Math.round(performance.now() - started);
}

function bySocket(): Open {
  const agent = new HttpAgent({ keepAlive: true, maxSockets: 64 });
  return (more) => httpRequest({ agent, socketPath: socket, ...more });
}

function byTls(secret: string): Open {
  const ca = readFileSync(join(folder, 'ca.crt'));
  const agent = new HttpsAgent({ keepAlive: true, maxSockets: 64 });
  const headers = { authorization: `Bearer ${secret}` };
  return (more) => httpsRequest({ agent, host: '127.0.0.1', port: PORT, ca, headers, ...more });
}

interface Latency {
  p50Ms: number;
  p99Ms: number;
  mostMs: number;
  failed: number;
  /** The first refusal, in its own words. */
  why: string | null;
}

function load(open: Open): Promise<Latency> {
  return atRate(rate, () => text(open, '/v1/vms?limit=100'));
}

/** At a fixed rate, whatever the answers take: a slow answer delays no further request. */
async function atRate(perSecond: number, ask: () => Promise<unknown>): Promise<Latency> {
  const took: number[] = [];
  let failed = 0;
  let why: string | null = null;
  const all: Promise<void>[] = [];
  const began = performance.now();
  for (let sent = 0; sent < perSecond * seconds; ) {
    const due = Math.floor(((performance.now() - began) / 1000) * perSecond);
    for (; sent < due; sent += 1) {
      const start = performance.now();
      const asked = ask().then(
        () => void took.push(performance.now() - start),
        (error: Error) => {
          failed += 1;
          why ??= error.message;
        },
      );
      all.push(asked);
    }
    await delay(1);
  }
  await Promise.all(all);
  took.sort((a, b) => a - b);
  const at = (share: number) => Math.round((took[Math.floor((took.length - 1) * share)] ?? NaN) * 10) / 10;
  return { p50Ms: at(0.5), p99Ms: at(0.99), mostMs: at(1), failed, why };
}

/** Each begins a park, which then fails for want of an agent: also that is what the service has to do beside the answers. */
async function webhooks(open: Open): Promise<Latency> {
  const body = JSON.stringify({
    ...{ alarm_name: 'idle', alarm_id: 'a', severity: 'low', previous: 'ok', current: 'alarm' },
    ...{ reason: 'bench', reason_data: { type: 'event', event: { traits: [] } } },
  });
  let number = 0;
  const once = () => {
    number += 1;
    const id = `bench-${number}`;
    const timestamp = Math.floor(Date.now() / 1000);
    const headers = {
      ...{ 'content-type': 'application/json', 'webhook-id': id, 'webhook-timestamp': String(timestamp) },
      'webhook-signature': sign(parseSecret('bench', webhookSecret), id, timestamp, body),
    };
    const vm = `vm${String(number).padStart(5, '0')}`;
    return text(open, `/v1/webhooks/aodh?action=park&vm=${vm}`, {
      method: 'POST',
      headers,
      body,
      wanted: 202,
    });
  };
  return atRate(WEBHOOKS_PER_SECOND, once);
}

async function text(
  open: Open,
  path: string,
  { wanted = 200, body, ...more }: RequestOptions & { wanted?: number; body?: string } = {},
): Promise<string> {
  const request = open({ path, ...more }).end(body);
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const chunks: Buffer[] = [];
  for await (const chunk of response) chunks.push(chunk as Buffer);
  const said = Buffer.concat(chunks).toString('utf8');
  if (response.statusCode === wanted) return said;
  throw new SeamlessError(
    'INTERNAL',
    `Expected ${wanted}, got ${response.statusCode}: ${said.slice(0, 200)}`,
  );
}

async function follow(open: Open): Promise<{ ids: string[]; close(): void }> {
  const request = open({ path: '/v1/events', agent: false }).end();
  const [response] = (await once(request, 'response')) as [IncomingMessage];
  const ids: string[] = [];
  response.on('error', () => {});
  response.on('data', (chunk) => ids.push(...(String(chunk).match(/^id: \d+$/gm) ?? [])));
  return { ids, close: () => response.destroy() };
}

/** One VM's QEMU goes and comes back, over and over: each time an event. */
function makeEvents() {
  let isOver = false;
  const before = lastEvent();
  const running = (async () => {
    while (!isOver) {
      await flaky.close();
      await delay(1500);
      await flaky.open();
      await delay(1500);
    }
  })();
  return {
    async end(): Promise<number> {
      isOver = true;
      await running;
      await delay(1000); // Its return is an event, too.
      return (await lastEvent()) - (await before);
    },
  };
}

async function lastEvent(): Promise<number> {
  let last = 0;
  for await (const { id } of apiClient(socket).events({ after: 0, follow: false })) last = Math.max(last, id);
  return last;
}

/** Speaks as much QMP as a watch needs, to however many come. */
async function startQemus(path: string) {
  const clients = new Set<Socket>();
  let [peak, greeting] = [0, 0];
  let server: Server | null = null;
  const open = async () => {
    server = createServer((client) => {
      greeting += 1;
      peak = Math.max(peak, greeting);
      client.on('error', () => {});
      client.on('close', () => clients.delete(client));
      client.write('{"QMP": {"version": {}, "capabilities": []}}\n');
      client.on('data', (data) => {
        if (!clients.has(client)) greeting -= 1;
        clients.add(client);
        for (const line of String(data).trim().split('\n')) {
          client.write(`{"return": {}, "id": ${(JSON.parse(line) as { id: number }).id}}\n`);
        }
      });
    });
    server.listen(path);
    await once(server, 'listening');
  };
  const close = async () => {
    for (const client of clients) client.destroy();
    await new Promise((resolve) => (server ? server.close(resolve) : resolve(null)));
    server = null;
  };
  await open();
  return { path, open, close, clients: () => clients.size, peak: () => peak };
}

function rssMiB(): number {
  const status = readFileSync(`/proc/${service.pid}/status`, 'utf8');
  return Math.round(Number(/^VmRSS:\s+(\d+)/m.exec(status)?.[1]) / 1024);
}

/** What the service has used so far. */
function cpuMs(): number {
  const stat = readFileSync(`/proc/${service.pid}/stat`, 'utf8');
  const fields = stat.slice(stat.lastIndexOf(')') + 2).split(' ');
  return (Number(fields[11]) + Number(fields[12])) * 10;
}

async function until(check: () => boolean | Promise<boolean>, withinMs: number, what: string): Promise<void> {
  const end = performance.now() + withinMs;
  while (!(await check())) {
    if (performance.now() > end) throw new SeamlessError('TIMEOUT', `Expected ${what} within ${withinMs} ms`);
    await delay(20);
  }
}

interface Row extends Latency {
  way: string;
  /** Of one processor, by the service. */
  cpuPercent: number;
  streams: number;
  events: number;
  leastReceived: number;
}

function report(result: {
  vms: number;
  rate: number;
  seconds: number;
  startMs: number;
  peakConnecting: number;
  rssMiB: number;
  rows: Row[];
  webhook: Latency;
}): void {
  const { rows, webhook } = result;
  const missed = rows.filter(
    ({ p99Ms, failed, streams, events, leastReceived }) =>
      !(p99Ms < GOALS.p99Ms) ||
      failed > 0 ||
      streams < Math.min(GOALS.streams, streamCount) ||
      leastReceived < events,
  );
  if (options.json) {
    process.stdout.write(`${JSON.stringify(result)}\n`);
  } else {
    const { startMs, peakConnecting, rssMiB } = result;
    process.stdout.write(
      `${vmCount} VMs: answers after ${startMs} ms, at most ${peakConnecting} QMP connections being opened at once, ${rssMiB} MiB\n`,
    );
    for (const { way, p50Ms, p99Ms, mostMs, failed, cpuPercent, streams, events, leastReceived } of rows) {
      process.stdout.write(
        `${way}: GET /v1/vms?limit=100 at ${rate}/s for ${seconds} s: p50 ${p50Ms} ms, p99 ${p99Ms} ms, most ${mostMs} ms, ${failed} failed, ${cpuPercent} % of a processor; ` +
          `${streams} streams, each got at least ${leastReceived} of ${events} events\n`,
      );
    }
    const refused = webhook.why ? `, ${webhook.failed} refused (${webhook.why})` : '';
    process.stdout.write(
      `webhooks at ${WEBHOOKS_PER_SECOND}/s: 202 after p50 ${webhook.p50Ms} ms, p99 ${webhook.p99Ms} ms, most ${webhook.mostMs} ms${refused}\n`,
    );
  }
  const names = missed.map(({ way }) => way);
  if (!(webhook.p99Ms < GOALS.p99Ms) || webhook.failed > 0) names.push('webhooks');
  if (names.length > 0) {
    process.stderr.write(`A goal is missed: ${names.join(', ')}\n`);
    process.exitCode = 1;
  }
}
