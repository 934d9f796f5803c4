/**
 * The service's surface with ten thousand registered VMs: how soon it answers after its start, GET /v1/vms?limit=100 at 200 requests a
 * second while 500 event streams are open and get each event, and signed webhooks of aodh, each for another VM: 202 with the operation, which is then
 * in the journal, on the disk. Each by the Unix socket and by TLS. The VMs are awake; all their QEMUs are one socket here that
 * speaks QMP's greeting, and no agent is there, so that a park that a webhook begins is taken back at once: what is measured is the surface.
 * Run by `scripts/bench api`, which keeps the figures; exits 1 when a goal is missed.
 */
import { randomBytes } from 'node:crypto';
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { apiClient } from '../../orchestrator/cli/client.ts';
import { parseSecret, sign } from '../../orchestrator/webhooks/signature.ts';
import { type Flushes, measureFlushes } from './flushes.ts';
import { startQemus } from './qemus.ts';
import { atRate, bySocket, byTls, type Latency, type Open, textOf } from './requests.ts';
import { type Service, startService, until, vmName } from './service.ts';
import { follow, makeEvents } from './streams.ts';

const PORT = 18_443;
const WEBHOOKS_PER_SECOND = 20;

export interface SurfaceRow extends Latency {
  what: 'list' | 'webhook';
  way: 'Unix socket' | 'TLS';
  perSecond: number;
  /** Of one processor, by the service. */
  cpuPercent: number;
  /** Of the time: its main thread could have run, and had no processor. */
  waitedPercent: number;
  streams: number;
  events: number;
  /** By the stream that got the fewest. */
  leastReceived: number;
  /** Of the disk that the journal is on, meanwhile. */
  flushes?: Flushes;
}

export interface Surface {
  vms: number;
  seconds: number;
  startMs: number;
  rssMiB: number;
  rows: SurfaceRow[];
}

const { values: options } = parseArgs({
  options: {
    vms: { type: 'string', default: '10000' },
    rate: { type: 'string', default: '200' },
    streams: { type: 'string', default: '500' },
    seconds: { type: 'string', default: '30' },
    json: { type: 'boolean', default: false },
  },
});
const [vms, rate, streamCount, seconds] = [options.vms, options.rate, options.streams, options.seconds].map(
  Number,
) as [number, number, number, number];

const webhookSecret = `whsec_${randomBytes(32).toString('base64')}`;
const folder = mkdtempSync(join(tmpdir(), 'seamless-bench-api-'));
process.once('exit', () => rmSync(folder, { recursive: true, force: true }));
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.once(signal, () => process.exit(1));
const qemu = await startQemus(join(folder, 'qmp.sock'));
const flaky = await startQemus(join(folder, 'flaky.sock'));
const qmp = { first: flaky.path, others: qemu.path };
const service = await startService({ folder, vms, qmp, webhookSecret, port: PORT });
try {
  report(await measure(service));
} finally {
  await service.close();
  await Promise.all([qemu.close(), flaky.close()]);
}

async function measure({ socket, startMs, rssMiB }: Service): Promise<Surface> {
  const token = { name: 'bench', scope: 'read' };
  const { secret } = await apiClient(socket).post<{ secret: string }>('/v1/tokens', token);
  await until(() => qemu.clients() + flaky.clients() >= vms, 60_000, 'every VM’s QMP connection');
  const ways = [
    ['Unix socket', bySocket(socket)],
    ['TLS', byTls(folder, PORT, secret)],
  ] as const;
  const rows: SurfaceRow[] = [];
  for (const [way, open] of ways) rows.push(await lists(way, open));
  for (const [way, open] of ways) rows.push(await webhooks(way, open, rows.length * 1000));
  return { vms, seconds, startMs, rssMiB: rssMiB(), rows };
}

async function lists(way: SurfaceRow['way'], open: Open): Promise<SurfaceRow> {
  const streams = await Promise.all(Array.from({ length: streamCount }, () => follow(open)));
  const happening = makeEvents(flaky, service.socket);
  const asked = await underLoad(rate, () => textOf(open, '/v1/vms?limit=100'));
  const events = await happening.end();
  const all = () => streams.every(({ ids }) => ids.length >= events);
  await until(all, 10_000, 'each event at each stream').catch(() => {});
  const leastReceived = Math.min(...streams.map(({ ids }) => ids.length));
  for (const stream of streams) stream.close();
  return { what: 'list', way, perSecond: rate, ...asked, streams: streams.length, events, leastReceived };
}

async function webhooks(way: SurfaceRow['way'], open: Open, first: number): Promise<SurfaceRow> {
  const perSecond = WEBHOOKS_PER_SECOND;
  let number = first;
  const asking = underLoad(perSecond, () => {
    number += 1;
    return textOf(open, `/v1/webhooks/aodh?action=park&vm=${vmName(number % vms)}`, alarm(`msg_${number}`));
  });
  const [asked, flushes] = await Promise.all([asking, measureFlushes(folder, perSecond, seconds)]);
  return { what: 'webhook', way, perSecond, ...asked, streams: 0, events: 0, leastReceived: 0, flushes };
}

async function underLoad(perSecond: number, ask: () => Promise<unknown>) {
  const [cpu, waited] = [service.cpuMs(), service.waitedMs()];
  const latency = await atRate(perSecond, seconds, ask);
  const percent = (ms: number) => Math.round((ms / seconds) * 0.1);
  return {
    ...latency,
    cpuPercent: percent(service.cpuMs() - cpu),
    waitedPercent: percent(service.waitedMs() - waited),
  };
}

function alarm(id: string) {
  const body = JSON.stringify({
    ...{ alarm_name: 'idle', alarm_id: 'a', severity: 'low', previous: 'ok', current: 'alarm' },
    ...{ reason: 'bench', reason_data: { type: 'event', event: { traits: [] } } },
  });
  const timestamp = Math.floor(Date.now() / 1000);
  const headers = {
    ...{ 'content-type': 'application/json', 'webhook-id': id, 'webhook-timestamp': String(timestamp) },
    'webhook-signature': sign(parseSecret('bench', webhookSecret), id, timestamp, body),
  };
  return { method: 'POST', headers, body, wanted: 202 };
}

function report(surface: Surface): void {
  const { startMs, rssMiB, rows } = surface;
  if (options.json) {
    process.stdout.write(`${JSON.stringify(surface)}\n`);
  } else {
    process.stdout.write(`${vms} VMs: answers after ${startMs} ms; ${rssMiB} MiB\n`);
    for (const row of rows) {
      const { what, way, perSecond, p50Ms, p99Ms, mostMs, failed, why, streams } = row;
      const heard = streams
        ? `; ${streams} streams, each got ${row.leastReceived} of ${row.events} events`
        : '';
      const flushed = row.flushes
        ? `; the disk's flushes: p99 ${row.flushes.p99Ms} ms, most ${row.flushes.mostMs} ms`
        : '';
      process.stdout.write(
        `${what} by ${way}, ${perSecond}/s for ${seconds} s: p50 ${p50Ms} ms, p99 ${p99Ms} ms, most ${mostMs} ms, ` +
          `${failed} failed${why ? ` (${why})` : ''}, ${row.cpuPercent} % of a processor, for which it waited ${row.waitedPercent} % of the time${heard}${flushed}\n`,
      );
    }
  }
  const missed = rows.filter((row) => !(row.p99Ms < 50) || row.failed > 0 || row.leastReceived < row.events);
  if (missed.length === 0) return;
  process.stderr.write(
    `A goal is missed: ${missed.map(({ what, way }) => `${what} by ${way}`).join(', ')}\n`,
  );
  process.exitCode = 1;
}
