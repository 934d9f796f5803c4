/** The main job, as `scripts/demo` does it: every judgement of the demo itself, and the shape of what it reports. */
import { beforeAll, expect, test } from 'vitest';
import { playDemo } from '../../demo/play.ts';
import { type DemoReport, renderReport } from '../../demo/report.ts';
import { say, sharedStage } from './fixtures/shared-stage.ts';

/** The demo leaves it parked for longer; what is judged is the same. */
const PARKED_SECONDS = 8;

// As the demo does it, by ssh, unless another way is asked for.
const stage = sharedStage({ transport: process.env['SEAMLESS_TRANSPORT'] ?? 'ssh' });
let report: DemoReport;

beforeAll(async () => {
  report = await playDemo(stage(), say, AbortSignal.timeout(280_000), { parkedSeconds: PARKED_SECONDS });
  say(renderReport(report));
}, 300_000);

test('three cycles are woken by a system call, by a new connection and by hand', () => {
  expect(report.cycles.map(({ unpark }) => unpark.cause)).toEqual(['syscall', 'syn', 'manual']);
  const [typed, login, manual] = report.cycles.map(({ unpark }) => unpark.trigger);
  expect(typed).toMatchObject({ program: 'bash', pid: expect.any(Number), syscall: expect.any(String) });
  expect(login).toMatchObject({ program: null, pid: null, syscall: 'SYN' });
  expect(manual).toBeNull();
});

test('nobody noticed anything', () => {
  expect(report.violations).toEqual([]);
  for (const client of report.clients) expect(client).toMatchObject({ resets: 0, fins: 0, reconnects: 0 });
});

test('QEMU is paused while parked, with at most a quarter of the memory resident', () => {
  for (const { parked } of report.cycles) expect(parked.qemuStatus).toBe('paused');
  const { memoryMiB, residentAwakeMiB, residentParkedMiB } = report.vm;
  expect(residentParkedMiB).toBeGreaterThan(0);
  expect(residentParkedMiB).toBeLessThanOrEqual(memoryMiB / 4);
  expect(residentParkedMiB).toBeLessThan(residentAwakeMiB);
});

test('pings and keep-alives are answered while parked', () => {
  for (const { parked } of report.cycles) {
    expect(parked.seconds).toBeGreaterThanOrEqual(PARKED_SECONDS);
    expect(parked.pingsAnswered).toBe(parked.pingsSent);
    expect(parked.pingsSent).toBeGreaterThanOrEqual(PARKED_SECONDS - 3);
    expect(parked.keepalivesAnswered).toBeGreaterThanOrEqual(PARKED_SECONDS - 3);
  }
});

test('the JSON has the keys that its users rely on', () => {
  const json = JSON.parse(JSON.stringify(report)) as DemoReport;
  const has = (value: unknown, ...keys: string[]) =>
    expect(Object.keys(value as object)).toEqual(expect.arrayContaining(keys));
  has(json, 'vm', 'cycles', 'clients', 'violations');
  has(json.vm, 'name', 'accel', 'memoryMiB', 'residentAwakeMiB', 'residentParkedMiB');
  expect(json.cycles).toHaveLength(3);
  for (const { park, parked, unpark } of json.cycles) {
    has(park, 'ms', 'steps');
    has(parked, 'seconds', 'qemuStatus', 'pingsSent', 'pingsAnswered', 'keepalivesAnswered');
    has(unpark, 'cause', 'trigger', 'responseMs', 'ms', 'steps');
    if (unpark.trigger) has(unpark.trigger, 'program', 'pid', 'syscall', 'detail');
    for (const step of [...park.steps, ...unpark.steps]) has(step, 'name', 'ms');
    expect(unpark.responseMs).toBeGreaterThan(0);
  }
  for (const client of json.clients) {
    has(client, 'name', 'kind', 'linesSent', 'linesReceived', 'resets', 'fins', 'reconnects');
  }
  expect(json.clients.map(({ kind }) => kind).sort()).toEqual(['ping', 'ssh-idle', 'ssh-shell', 'tcp-lines']);
});
