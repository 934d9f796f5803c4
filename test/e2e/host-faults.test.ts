/**
 * What becomes of a park and an unpark when a host's connection fails at a step of it. The orchestrator stops itself right before the
 * step acts, the fault is made, and it goes on. Whatever the fault: no connection of a client is lost, there is one copy of the
 * processes, and the VM is awake, parked, or stuck with everything kept, from which it comes back.
 *
 * SEAMLESS_HOST_FAULTS=all takes each fault at each step on both hosts (240 cases, an hour; -t '^unpark.flip' for a part); else those that each differ in what they find.
 */
import { existsSync, readdirSync, readFileSync } from 'node:fs';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { takeDown } from '../../lab/down.ts';
import type { SwitchHost } from '../../lab/open-vswitch.ts';
import { namespacePath } from '../../lab/plan.ts';
import { sshConfigPath } from '../../lab/ssh.ts';
import { readState } from '../../lab/state.ts';
import { awaitState, configure, kill, seamless, show, start, traces } from './fixtures/admin.ts';
import {
  changeHostKey,
  cut,
  mend,
  refuseAccount,
  restartSshd,
  stopAt,
  stopFile,
} from './fixtures/host-faults.ts';
import { planOwnLab, startVm1 } from './fixtures/native-lab.ts';
import { say } from './fixtures/shared-stage.ts';
import { Connection } from './gateways/connection.ts';

const lab = planOwnLab('faults');
/** Short, so that what can't be reached for ever is stuck soon. */
const PERSIST_MS = 3000;
const SETTLE_MS = 60_000;
const TIDY_MS = 20_000;
/** By which the one copy of the client's process is told from others. */
const MARK = `copy${process.pid}`;

type Fault =
  | 'cut for 1 s'
  | 'cut for 10 s'
  | 'cut for ever'
  | 'sshd restarted'
  | 'another host key'
  | 'account refused';
type Case = readonly [point: string, fault: Fault, host: SwitchHost];

const STEPS = {
  park: 'admit prepare plug probe hold checkpoint receive restore flip divert run switchOff confirm',
  unpark: 'resume flip checkpoint send restore release tidy',
};
const FAULTS: readonly Fault[] = [
  'cut for 1 s',
  'cut for 10 s',
  'cut for ever',
  'sshd restarted',
  'another host key',
  'account refused',
];
const ALL = Object.entries(STEPS).flatMap(([saga, steps]) =>
  steps
    .split(' ')
    .flatMap((step) =>
      FAULTS.flatMap((fault) =>
        (['hv', 'sink'] as const).map((host) => [`${saga}.${step}.started`, fault, host] as const),
      ),
    ),
);
const ESSENTIAL: readonly Case[] = [
  ['park.plug.started', 'cut for 1 s', 'sink'],
  ['park.hold.started', 'cut for 1 s', 'hv'],
  ['park.flip.started', 'cut for 1 s', 'sink'],
  ['park.flip.started', 'sshd restarted', 'hv'],
  ['park.divert.started', 'cut for 1 s', 'hv'],
  ['unpark.resume.started', 'cut for 1 s', 'hv'],
  ['unpark.flip.started', 'cut for 1 s', 'hv'],
  ['unpark.flip.started', 'sshd restarted', 'sink'],
  ['unpark.release.started', 'cut for 1 s', 'hv'],
  ['unpark.release.started', 'cut for ever', 'hv'],
  ['park.hold.started', 'account refused', 'hv'],
];
const CASES = process.env['SEAMLESS_HOST_FAULTS'] === 'all' ? ALL : ESSENTIAL;

let client: Connection;
let asked = 0;
let atRest: Awaited<ReturnType<typeof traces>>;

beforeAll(async () => {
  await takeDown(lab, () => {}); // what a killed run left
  await startVm1(lab, 1024, { transport: 'ssh' });
  await configure({ persistMs: PERSIST_MS });
  await restartOrchestrator();
  const program = `exec -a ${MARK} cat`;
  client = new Connection(namespacePath(lab, 'client'), [
    'ssh',
    '-F',
    sshConfigPath(lab),
    'vm1',
    `bash -c '${program}'`,
  ]);
  await expectAnswered();
  // Once there and back: from then on the switches' tables are as they will be each time.
  expect(await seamless('park', 'vm1')).toMatchObject({ exitCode: 0 });
  expect(await seamless('unpark', 'vm1')).toMatchObject({ exitCode: 0 });
  atRest = await traces();
}, 300_000);

afterAll(async () => {
  await client?.close();
  await takeDown(lab, say);
}, 120_000);

test.each(CASES)(
  '%s, %s of %s',
  async (point, fault, host) => {
    const verb = point.split('.')[0] as 'park' | 'unpark';
    if (verb === 'unpark') expect(await seamless('park', 'vm1')).toMatchObject({ exitCode: 0 });
    await stopAt(lab, point);
    // At the first step it stops before it has answered.
    const asking = seamless(verb, 'vm1', '--no-wait');
    await stopped();
    const repair = await make(fault, host).finally(() => process.kill(orchestrator(), 'SIGCONT'));
    expect(await asking).toMatchObject({ exitCode: 0 });

    if (fault === 'cut for 1 s' || fault === 'cut for 10 s')
      await delay(fault === 'cut for 1 s' ? 1000 : 10_000);
    else await settled();
    expect(copies(), 'copies that may run').toBeLessThanOrEqual(1);
    await repair();

    await comeBack();
    await expectAnswered();
    expect(copies(), 'copies that may run').toBe(1);
    // What could not be tidied while the host was away is when it is back.
    await expect.poll(traces, { timeout: TIDY_MS, interval: 500 }).toEqual(atRest);
  },
  180_000,
);

/** @returns what takes the fault away */
async function make(fault: Fault, host: SwitchHost): Promise<() => Promise<void>> {
  switch (fault) {
    case 'sshd restarted':
      await restartSshd(lab, host);
      return async () => {};
    case 'another host key':
      return andAskAtOnce(await changeHostKey(lab, host), /expected the host key SHA256:.*, got SHA256:/);
    case 'account refused':
      return andAskAtOnce(await refuseAccount(lab, host), /does not accept the key/);
    default:
      await cut(host);
      return () => mend(host);
  }
}

/** A refusal is said, and asked about again only after a while: who has mended it starts the orchestrator anew. */
function andAskAtOnce(repair: () => Promise<void>, said: RegExp): () => Promise<void> {
  return async () => {
    expect((await show('vm1')).hostLost?.reason ?? (await seamless('park', 'vm1')).stderr).toMatch(said);
    await repair();
    await restartOrchestrator();
  };
}

/** Awake, whatever it was: by itself, by hand, or by force when it is stuck. */
async function comeBack(): Promise<void> {
  await settled();
  const tries: string[] = [];
  await expect
    .poll(
      async () => {
        const { recordedState } = await show('vm1');
        if (recordedState === 'awake') return recordedState;
        const force = recordedState === 'stuck' ? ['--force'] : [];
        tries.push(`${recordedState}: ${(await seamless('unpark', 'vm1', ...force)).stderr}`);
        return (await show('vm1')).recordedState;
      },
      { timeout: SETTLE_MS, interval: 500, message: tries.join('\n') },
    )
    .toBe('awake');
  await awaitState('vm1', 'awake', 10_000);
}

/** Resolves when nothing is under way. */
async function settled(): Promise<void> {
  await expect
    .poll(async () => (await show('vm1')).recordedState, { timeout: SETTLE_MS, interval: 50 })
    .toMatch(/awake|parked|stuck/);
}

/** The client's own connection, from before the first fault, answers each line once. */
async function expectAnswered(): Promise<void> {
  asked += 1;
  await client.ask(`line ${asked}\n`, new RegExp(`line ${asked}\n`), 30_000);
  const lines = client.received.match(/^line \d+$/gm);
  expect(lines).toEqual(Array.from({ length: asked }, (_, index) => `line ${index + 1}`));
}

/** Of the client's process on this machine, in the VM or in the sink, those that are not frozen. */
function copies(): number {
  const pids = readdirSync('/proc').filter((name) => /^\d+$/.test(name));
  return pids.filter((pid) => {
    try {
      if (!readFileSync(`/proc/${pid}/cmdline`, 'utf8').startsWith(MARK)) return false;
      const group = /^0::(.*)$/m.exec(readFileSync(`/proc/${pid}/cgroup`, 'utf8'))?.[1] ?? '';
      return !isFrozen(group);
    } catch {
      return false; // it has ended
    }
  }).length;
}

function isFrozen(group: string): boolean {
  const events = `/sys/fs/cgroup/unified${group}/cgroup.events`;
  return existsSync(events) && /^frozen 1$/m.test(readFileSync(events, 'utf8'));
}

function orchestrator(): number {
  const running = readState(lab)?.processes.find(({ name }) => name === 'orchestrator');
  if (!running) throw new Error('Expected the lab to run an orchestrator');
  return running.pid;
}

/** Resolves when the orchestrator has stopped itself. */
async function stopped(): Promise<void> {
  const state = () => /\) (\w) /.exec(readFileSync(`/proc/${orchestrator()}/stat`, 'utf8'))?.[1];
  await expect.poll(state, { timeout: 20_000, interval: 5 }).toBe('T');
}

async function restartOrchestrator(): Promise<void> {
  await kill('orchestrator');
  await start('orchestrator', { SEAMLESS_STOP_AFTER: stopFile(lab) });
}
