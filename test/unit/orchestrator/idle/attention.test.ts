/** The live loop over a driver that only notes what it is told; time is real and short. */
import { join } from 'node:path';
import { beforeEach, expect, onTestFinished, test, vi } from 'vitest';
import { silentLog } from '../../../../common/log.ts';
import { Attention } from '../../../../orchestrator/idle/attention.ts';
import { VmHistory } from '../../../../orchestrator/idle/history.ts';
import { parsePolicy } from '../../../../orchestrator/idle/policy/document.ts';
import { BUILT_IN } from '../../../../orchestrator/idle/policy/policy.ts';
import { SpareMemory } from '../../../../orchestrator/idle/spare-memory.ts';
import type { Attended } from '../../../../orchestrator/idle/watched.ts';
import { type Journal, openJournal } from '../../../../orchestrator/saga/journal.ts';
import type { Move } from '../../../../orchestrator/vm/driver-deps.ts';
import type { ParkCause, VmState, Wake } from '../../../../orchestrator/vm/state.ts';
import { temporaryFolder } from '../saga/suite.ts';

const EVERY_MS = 20;
/** Shorter than a policy file may say: the loop does not care. */
const WINDOW_MS = 200;
const QUIET_TEXT = 'version: 1\ndefaults:\n  window: 5s\n  lead: 0s\n  minGap: 0s\n';

/** A guest at rest, whose counters stand still; a test changes it. */
class Guest {
  typing = false;
  timers: { name: string; atMs: number }[] = [];
  payloadBytes = 0;
  asked = 0;
  answer: (report: object) => unknown = (report) => report;

  readonly source = {
    guest: async () => {
      this.asked++;
      return this.answer({
        bootId: '5f0c2d1e-0000-4000-8000-000000000001',
        epochMs: Date.now(),
        uptimeMs: performance.now(),
        ...{ cpus: 2, cpuBusyMs: 0, loadMs: 0, diskBytes: 0, dirtiedBytes: 0 },
        sessions: [{ terminal: 'pts/0', idleMs: this.typing ? 0 : 1e7 }],
        ...{ jobs: [], timers: this.timers, lease: null },
      });
    },
    network: async () => ({ payloadBytes: this.payloadBytes }),
    hypervisor: async () => ({ dirtyRate: 'none' }),
  };
}

class Driver {
  state: VmState = { kind: 'awake' };
  readonly done: string[] = [];
  readonly parks: ParkCause[] = [];
  readonly wakes: Wake[] = [];
  onMove: (move: Move) => void = () => {};

  park(because: ParkCause = { cause: 'manual' }) {
    this.parks.push(because);
    this.done.push('park');
    this.move({ kind: 'parking', operation: 'park-1', phase: 'before-pivot' });
    return { already: false, operation: 'park-1' };
  }

  wake(wake: Wake): void {
    this.wakes.push(wake);
    this.done.push(`wake ${wake.cause}`);
    this.move({ kind: 'awake' }, { cause: wake.cause });
  }

  abortPark(): boolean {
    this.done.push('abort');
    this.move({ kind: 'awake' }, { cause: 'use' });
    return true;
  }

  move(state: VmState, move: Partial<Move> = {}): void {
    this.state = state;
    this.onMove({ state: state.kind, cause: null, error: null, ...move });
  }
}

const PARKED: VmState = { kind: 'parked', parked: { imageId: 'i', sinkPort: 'p', listeners: [] } };
let journal: Journal;
let journalPath: string;

beforeEach(() => {
  journalPath = join(temporaryFolder(), 'journal.sqlite');
  journal = openJournal(journalPath);
  onTestFinished(() => journal.close());
});

function attend(over: { text?: string; windowMs?: number; driver?: Driver; guest?: Guest } = {}) {
  const { text = QUIET_TEXT, windowMs = WINDOW_MS, driver = new Driver(), guest = new Guest() } = over;
  const parsed = (source: string) => {
    const document = parsePolicy(source, 'policy.yaml');
    return {
      file: document.file,
      policyFor: (vm: Parameters<typeof document.policyFor>[0]) => ({ ...document.policyFor(vm), windowMs }),
    };
  };
  const policy = { current: parsed(text), problem: null };
  const attention = new Attention({ policy, journal, log: silentLog, everyMs: EVERY_MS });
  const vm: Attended = { name: 'vm1', host: 'hv', driver, source: guest.source };
  driver.onMove = (move) => attention.moved('vm1', move);
  attention.add(vm);
  attention.start();
  onTestFinished(() => attention.stop());
  const change = (source: string) => {
    policy.current = parsed(source);
    attention.policyChanged();
  };
  return { attention, driver, guest, change };
}

const until = (claim: () => void) => vi.waitFor(claim, { timeout: 5000, interval: 5 });
const rounds = async (guest: Guest, count: number) => {
  const from = guest.asked;
  await until(() => expect(guest.asked).toBeGreaterThan(from + count));
};

test('a VM that nobody uses is parked after a window, with the rule and the line that decided', async () => {
  const startedAt = performance.now();
  const { driver } = attend();
  await until(() => expect(driver.done).toEqual(['park']));
  expect(performance.now() - startedAt).toBeGreaterThan(WINDOW_MS - 1);
  expect(driver.parks).toEqual([{ cause: 'idle', rule: 'idle (policy.yaml:3, windowMs)' }]);
});

test('one at which somebody types is not', async () => {
  const { driver, guest, attention } = attend();
  guest.typing = true;
  await rounds(guest, 30);
  expect(driver.done).toEqual([]);
  expect(attention.explain('vm1')).toMatchObject({
    verdict: 'keep',
    rule: 'busy (built in, thresholds.sessions)',
  });
  guest.typing = false;
  await until(() => expect(driver.done).toEqual(['park']));
});

test.each<[string, (report: object) => unknown]>([
  ['nothing', () => null],
  ['text', () => 'quiet, I promise'],
  ['negative values', (report) => ({ ...report, cpuBusyMs: -1 })],
  ['huge values', (report) => ({ ...report, diskBytes: 1e300 })],
  ['values that are no numbers', (report) => ({ ...report, loadMs: Number.NaN, jobs: 'none' })],
  ['half of the sessions', (report) => ({ ...report, sessions: [{ terminal: 'pts/0' }] })],
  ['a clock of its own', (report) => ({ ...report, epochMs: Date.now() + 1e7 * Math.random() })],
  ['an error', () => Promise.reject(new Error('broken'))],
  ['no timers', (report) => ({ ...report, timers: null })],
])('an agent that reports %s leaves its VM unknown, and awake', async (_what, answer) => {
  const { driver, guest, attention } = attend();
  guest.answer = answer;
  await rounds(guest, 30);
  expect(driver.done).toEqual([]);
  const { verdict, rule, signals } = attention.explain('vm1');
  expect(verdict).toBe('keep');
  expect(rule).toMatch(/^unknown/);
  expect(signals.some(({ state }) => state === 'unknown')).toBe(true);
  expect(signals.some(({ state }) => state === 'busy')).toBe(false);
});

test('one that never answers holds up nobody', async () => {
  const silent = new Guest();
  silent.answer = () => new Promise(() => {});
  const { attention } = attend({ guest: silent });
  const driver = new Driver();
  driver.onMove = (move) => attention.moved('vm2', move);
  attention.add({ name: 'vm2', host: 'hv', driver, source: new Guest().source });
  await until(() => expect(driver.done).toEqual(['park']));
  expect(silent.asked).toBe(1);
});

test('one that does not answer is asked less and less, and at once again when it does', async () => {
  const guest = new Guest();
  guest.answer = () => null;
  attend({ guest });
  const live = new Guest();
  const { driver } = attend({ guest: live, windowMs: 40 * EVERY_MS });
  await until(() => expect(driver.done).toEqual(['park']));
  expect(guest.asked).toBeLessThan(live.asked / 2);
  guest.answer = (report) => report;
  const asked = guest.asked;
  await rounds(guest, 10);
  expect(guest.asked).toBeGreaterThan(asked + 10);
});

test('who types while the VM parks takes the park back, and the VM has a grace', async () => {
  const { driver, guest, attention } = attend();
  await until(() => expect(driver.state.kind).toBe('parking'));
  guest.typing = true;
  await until(() => expect(driver.done).toEqual(['park', 'abort']));
  guest.typing = false;
  await until(() => expect(attention.explain('vm1').rule).toBe('grace (policy.yaml:3, windowMs)'));
  await until(() => expect(driver.done).toEqual(['park', 'abort', 'park']));
});

test('a VM that woke has a grace of twice the window, by hand or not', async () => {
  const { driver } = attend();
  driver.move({ kind: 'parking', operation: 'park-1', phase: 'before-pivot' });
  driver.move(PARKED);
  driver.move({ kind: 'unparking', operation: 'unpark-1', parked: PARKED.parked }, { cause: 'manual' });
  driver.move({ kind: 'awake' });
  const wokeAt = performance.now();
  await until(() => expect(driver.done).toEqual(['park']));
  expect(performance.now() - wokeAt).toBeGreaterThan(2 * WINDOW_MS - 1);
});

test('a VM that can’t be parked is tried again later and later, and explain says why', async () => {
  const { driver, attention, change } = attend();
  const error = { code: 'VM_UNPARKABLE' as const, message: 'vm1 can’t be parked: it maps /dev/kvm' };
  const refuse = async (times: number) => {
    await until(() => expect(driver.done.length).toBe(times));
    driver.move({ kind: 'awake' }, { error });
    return performance.now();
  };
  const first = await refuse(1);
  await until(() => expect(attention.explain('vm1').rule).toBe('refused'));
  expect(attention.explain('vm1')).toMatchObject({
    verdict: 'keep',
    reason: `it could not be parked: ${error.message}`,
    refusal: { ...error, times: 1 },
  });
  const second = await refuse(2);
  expect(second - first).toBeGreaterThan(WINDOW_MS - 1);
  const third = await refuse(3);
  expect(third - second).toBeGreaterThan(2 * WINDOW_MS - 1);
  change(`${QUIET_TEXT}# mended\n`);
  expect(attention.explain('vm1').refusal).toBe(null);
  await refuse(4);
  expect(performance.now() - third).toBeLessThan(4 * WINDOW_MS);
});

test('a parked VM is woken for its timer, after a restart, too', async () => {
  const driver = new Driver();
  const guest = new Guest();
  guest.timers = [{ name: 'backup.timer', atMs: Date.now() + 1500 }];
  const first = attend({ driver, guest });
  await until(() => expect(driver.done).toEqual(['park']));
  driver.move(PARKED);
  await until(() => expect(journal.kept('vm1')).toMatchObject({ timers: [{ name: 'backup.timer' }] }));
  await first.attention.stop();
  const asked = guest.asked;
  const second = attend({ driver, guest });
  expect(second.attention.explain('vm1')).toMatchObject({ nextTimerName: 'backup.timer', verdict: 'keep' });
  await until(() => expect(driver.done).toEqual(['park', 'wake timer']));
  expect(Date.now()).toBeGreaterThan((guest.timers[0]?.atMs ?? 0) - 10);
  expect(driver.wakes[0]?.trigger).toMatchObject({
    rule: 'timer.due',
    detail: expect.stringMatching(/^its timer backup\.timer is due at .*Z \(timer \(built in, timers\)\)$/),
  });
  expect(guest.asked).toBe(asked);
});

test('nobody is parked after a start until a window has been seen', async () => {
  const { driver, attention } = attend();
  await until(() => expect(driver.done).toEqual(['park']));
  driver.move({ kind: 'awake' });
  await attention.stop();
  const startedAt = performance.now();
  const again = attend();
  await until(() => expect(again.driver.done).toEqual(['park']));
  expect(performance.now() - startedAt).toBeGreaterThan(WINDOW_MS - 1);
});

test('a changed policy holds at once, for VMs that are parked, too', async () => {
  const { driver, change } = attend();
  await until(() => expect(driver.done).toEqual(['park']));
  driver.move(PARKED);
  change('version: 1\nvms:\n  - match: { name: vm* }\n    park: never\n');
  await until(() => expect(driver.done).toEqual(['park', 'wake policy']));
  expect(driver.wakes[0]?.trigger?.detail).toBe(
    'the policy says never to park it (never (policy.yaml:4, park))',
  );
});

test('selectors go by the metadata that OpenStack has told', () => {
  const text = 'version: 1\nvms:\n  - match: { metadata: { project: shop } }\n    park: never\n';
  const { attention } = attend({ text });
  expect(attention.explain('vm1').rule).not.toMatch(/^never/);
  attention.setMetadata('vm1', { project: 'shop' });
  expect(attention.explain('vm1').rule).toBe('never (policy.yaml:4, park)');
});

test('without a policy nobody is asked and nothing is done', async () => {
  const guest = new Guest();
  const attention = new Attention({ policy: null, journal, log: silentLog, everyMs: EVERY_MS });
  attention.add({ name: 'vm1', host: 'hv', driver: new Driver(), source: guest.source });
  attention.start();
  await attention.stop();
  expect(guest.asked).toBe(0);
  expect(attention.explain('vm1')).toMatchObject({ verdict: 'keep', rule: 'off (no policy is configured)' });
  expect(() => attention.explain('vm9')).toThrow('Expected a registered VM');
});

test('of the idle VMs of a host a few are parked at once, the others when these are', async () => {
  const policy = { current: parsePolicy(QUIET_TEXT, 'p.yaml'), problem: null };
  const policyFor = (vm: { name: string; host: string }) => ({
    ...parsePolicy(QUIET_TEXT, 'p.yaml').policyFor(vm),
    windowMs: WINDOW_MS,
  });
  const attention = new Attention({
    ...{ journal, log: silentLog, everyMs: EVERY_MS },
    policy: { ...policy, current: { file: 'p.yaml', policyFor } },
  });
  const drivers = Array.from({ length: 7 }, (_, index) => {
    const driver = new Driver();
    const name = `vm${index}`;
    driver.onMove = (move) => attention.moved(name, move);
    attention.add({ name, host: index === 6 ? 'other' : 'hv', driver, source: new Guest().source });
    return driver;
  });
  attention.start();
  onTestFinished(() => attention.stop());
  const parking = () => drivers.filter(({ state }) => state.kind === 'parking');
  await until(() => expect(drivers[6]?.state.kind).toBe('parking'));
  await until(() => expect(parking()).toHaveLength(5));
  for (const driver of parking()) driver.move(PARKED);
  await until(() => expect(parking()).toHaveLength(2));
});

test('many VMs are asked evenly over the interval', async () => {
  const policy = { current: parsePolicy(QUIET_TEXT, 'p.yaml'), problem: null };
  const attention = new Attention({ policy, journal, log: silentLog, everyMs: 500 });
  const asked: number[] = [];
  const guest = async () => {
    asked.push(performance.now());
    return null;
  };
  for (let index = 0; index < 100; index++) {
    attention.add({
      name: `vm${index}`,
      host: 'hv',
      driver: new Driver(),
      source: { guest, network: guest, hypervisor: guest },
    });
  }
  attention.start();
  onTestFinished(() => attention.stop());
  await until(() => expect(asked.length).toBeGreaterThanOrEqual(300));
  expect((asked[299] as number) - (asked[0] as number)).toBeGreaterThan(200);
});

test('on a host that is short of memory nobody is woken for what is only expected', async () => {
  const spare = new SpareMemory(async (host) => {
    if (host === 'gone') throw new Error('no answer');
    return {
      availableBytes: 2 ** 30,
      vms: [{ vm: 'vm1', committedBytes: 0, residentBytes: 0, swappedBytes: 0, freedBytes: 2 ** 29 }],
    };
  });
  const on = (host: string, spareMemoryBytes: number) => ({
    ...{ name: 'vm1', host, history: new VmHistory(Date.now()) },
    policy: { ...BUILT_IN, spareMemoryBytes },
  });
  const [asked, unasked, gone] = [on('hv', 1), on('hv2', 0), on('gone', 1)] as const;
  gone.history.hostFreeBytes = 1;
  spare.refresh([asked, unasked, gone]);
  await until(() => expect(asked.history).toMatchObject({ hostFreeBytes: 2 ** 30, memoryBytes: 2 ** 29 }));
  await until(() => expect(gone.history.hostFreeBytes).toBeNull());
  expect(unasked.history.hostFreeBytes).toBeNull();
});
