/**
 * The service by itself: it finds the VM idle and parks it, probes leave it parked, a user wakes it, the grace keeps it awake, it is parked
 * again, and it is woken ahead of a timer of the guest. Nobody gives an order.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { SeamlessError } from '../common/errors.ts';
import { CHECKER, type Pace, policyText } from './auto-policy.ts';
import type { AutoReport } from './auto-report.ts';
import { clientReports } from './client-reports.ts';
import { quietFacts, responseMs } from './observe.ts';
import type { Explained } from './service.ts';
import type { Stage } from './stage.ts';

const WAKE_TIMEOUT_MS = 60_000;
const POLL_MS = 500;
const SCANNED = { first: 8001, last: 8100 };
const CHECKS = 5;
const TIMER = 'seamless-demo';
/** As exactly as Linux tells when somebody typed (vm-agent/sample/terminals.ts): the grace may begin that late. */
const TERMINAL_STEP_S = 8;
const MARK = '/run/seamless-demo-timer';

export async function playAuto(
  stage: Stage,
  pace: Pace,
  say: (text: string) => void,
  signal: AbortSignal,
): Promise<AutoReport> {
  const violations: string[] = [];
  const isNative = stage.accel === 'native';
  const resident = async () => (isNative ? null : await stage.residentMiB());
  const residentAwakeMiB = await resident();
  say(
    `a policy lets the service park ${stage.vm} after ${pace.window} quiet seconds; a user types a last command, and goes`,
  );
  await stage.shell.run('echo bye', WAKE_TIMEOUT_MS);
  const usedAt = Date.now();
  await stage.setPolicy(policyText(pace));
  const { park } = await untilParked(stage, pace, say, signal);
  if (park.cause !== 'idle') violations.push(`expected a park because it is idle, got ${park.cause}`);
  const found = {
    seconds: (Date.parse(park.startedAt) - usedAt) / 1000,
    windowSeconds: pace.window,
    rule: park.rule ?? 'none',
    parkMs: park.ms,
  };
  if (found.seconds < pace.window)
    violations.push(`parked ${found.seconds} s after the last use, within the window`);

  const probes = await probe(stage, pace, violations, say, signal);
  const residentParkedMiB = await resident();

  say('a user types a command');
  const user = await wakeByUser(stage, violations);
  const wokeAt = Date.parse(user.startedAt);
  const graceS = 2 * pace.window;
  const plannedS = Math.ceil(
    wokeAt / 1000 + TERMINAL_STEP_S + graceS + pace.parking + pace.lead + pace.minGap,
  );
  say(
    `  woken by ${user.trigger?.detail}; a timer is set in the guest for ${clock(plannedS)}, and nobody types any more`,
  );
  const [again] = await Promise.all([
    untilParked(stage, pace, say, signal, park.id),
    setTimer(stage, plannedS),
  ]);
  const grace = {
    seconds: (Date.parse(again.park.startedAt) - wokeAt) / 1000,
    expectedSeconds: graceS,
    rules: again.rules,
    signals: again.signals,
  };
  if (grace.seconds < graceS) violations.push(`parked again after ${grace.seconds} s, within the grace`);
  if (!grace.rules.includes('grace')) violations.push('expected the rule `grace` to have kept it awake');

  say(
    `  parked again after ${grace.seconds.toFixed(0)} s; the timer is ${(plannedS - Date.now() / 1000).toFixed(0)} s ahead`,
  );
  const timer = await wakeByTimer(stage, plannedS, user.id, violations, signal);
  say(`  woken ${timer.wokenSecondsBefore.toFixed(1)} s ahead of the timer, which fired`);
  await stage.echo.send(WAKE_TIMEOUT_MS);
  const secret = await stage.shell.run('echo "variable: $SEAMLESS_DEMO"', WAKE_TIMEOUT_MS);
  if (!secret.includes(`variable: ${stage.secret}`))
    violations.push(`the shell has lost its variable: ${secret}`);
  const { reports, faults } = clientReports(stage);

  const { vm: name, accel, memoryMiB } = stage;
  const { cause, trigger, responseMs: answered } = user;
  return {
    vm: { name, accel, memoryMiB, residentAwakeMiB, residentParkedMiB },
    ...{ found, probes, grace, timer, clients: reports },
    user: { cause: cause ?? 'unknown', trigger, responseMs: answered },
    violations: [...violations, ...faults],
  };
}

/** @param before id of an earlier park; @returns which rules kept it awake until then, and the signals as they were last */
async function untilParked(
  stage: Stage,
  pace: Pace,
  say: (text: string) => void,
  signal: AbortSignal,
  before?: string,
) {
  const deadline = Date.now() + (TERMINAL_STEP_S + 3 * pace.window + 3 * pace.parking) * 1000;
  const rules: string[] = [];
  let signals: Explained['signals'] = [];
  for (;;) {
    const explained = await stage.service.explain(stage.vm);
    const { state, rule, lastPark: park } = explained;
    if (state === 'parked' && park?.status === 'succeeded' && park.id !== before)
      return { park: { ...park, ms: park.ms ?? 0 }, rules, signals };
    if (state === 'awake') {
      signals = explained.signals;
      const [name = ''] = rule.split(' ');
      if (rules.at(-1) !== name) {
        rules.push(name);
        say(`  awake: ${rule}`);
      }
    }
    if (Date.now() > deadline) {
      throw new SeamlessError(
        'TIMEOUT',
        `Expected the service to park ${stage.vm}, it is ${state}: ${rule} ${JSON.stringify(signals)}`,
      );
    }
    await delay(POLL_MS, undefined, { signal });
  }
}

/** Everything that network stacks answer for a VM, and what the policy calls a health check. */
async function probe(
  stage: Stage,
  pace: Pace,
  violations: string[],
  say: (text: string) => void,
  signal: AbortSignal,
): Promise<AutoReport['probes']> {
  const { address, vm } = stage;
  const { first, last } = SCANNED;
  say(
    `  parked; probed for ${pace.probed} s: pings, ARP, keep-alives, a scan of ${last - first + 1} ports, health checks`,
  );
  const from = Date.now() / 1000;
  await stage.forgetNeighbour();
  await stage.inClient(['ip', 'addr', 'replace', `${CHECKER}/32`, 'dev', 'prod0'], 5000);
  const connect = '(exec 3<>"/dev/tcp/$0/$port") 2>/dev/null';
  const scan = `open=0; for port in $(seq ${first} ${last}); do ${connect} && open=$((open + 1)); done; echo $open`;
  const open = (await stage.inClient(['bash', '-c', scan, address], 30_000)).trim();
  if (open !== '0') violations.push(`expected closed ports to refuse connections, ${open} accepted`);
  for (let count = 0; count < CHECKS; count++) {
    const target = `TCP:${address}:22,bind=${CHECKER},connect-timeout=5`;
    await stage.inClient(['socat', '-u', 'OPEN:/dev/null', target], 10_000);
  }
  await delay(pace.probed * 1000 - (Date.now() - from * 1000), undefined, { signal });
  const to = Date.now() / 1000;
  const { state, lastUnpark } = await stage.service.explain(vm);
  if (state !== 'parked' || lastUnpark !== null) {
    const why = lastUnpark?.trigger?.detail ?? '';
    throw new SeamlessError('INTERNAL', `Expected the probes to leave ${vm} parked, it is ${state}: ${why}`);
  }
  const facts = quietFacts(stage.wire.packets, address, stage.idleSsh.port, from, to - 0.5);
  if (facts.pingsAnswered < facts.pingsSent || facts.pingsSent < pace.probed - 3)
    violations.push(`pings while parked: ${facts.pingsAnswered} of ${facts.pingsSent} answered`);
  if (facts.arpsAnswered === 0) violations.push('no ARP request was answered while parked');
  if (facts.keepalivesAnswered < pace.probed - 3)
    violations.push(`ssh keep-alives while parked: ${facts.keepalivesAnswered} answered`);
  return { seconds: to - from, ...facts, portsScanned: last - first + 1, healthChecks: CHECKS };
}

async function wakeByUser(stage: Stage, violations: string[]) {
  let packets = 0;
  const output = await stage.shell.run(
    'env printf "%s\\n" "variable: $SEAMLESS_DEMO"',
    WAKE_TIMEOUT_MS,
    () => {
      packets = stage.wire.packets.length;
    },
  );
  if (!output.includes(`variable: ${stage.secret}`))
    violations.push(`expected the command to print the variable’s value ${stage.secret}, got ${output}`);
  const { port } = stage.shell;
  const enter = await stage.wire.waitFor(
    'the Enter key',
    ({ sourcePort, destination, length }) =>
      sourcePort === port && destination === stage.address && length > 0,
    1000,
    packets,
  );
  const answered = await responseMs(stage.wire, stage.tap, enter, WAKE_TIMEOUT_MS);
  const wake = await untilAwake(stage, undefined, WAKE_TIMEOUT_MS);
  if (wake.cause !== 'syscall') violations.push(`expected a wake by a system call, got ${wake.cause}`);
  return { ...wake, responseMs: answered };
}

/** A timer of systemd that notes when it fired. By the calendar: a monotonic one stands still with the guest. */
async function setTimer(stage: Stage, plannedS: number): Promise<void> {
  const unit = [`--unit=${TIMER}`, `--on-calendar=${clock(plannedS)}`, '--timer-property=AccuracySec=1ms'];
  await stage.inVm(['systemd-run', '--quiet', ...unit, 'sh', '-c', `date +%s.%N > ${MARK}`]);
}

async function wakeByTimer(
  stage: Stage,
  plannedS: number,
  before: string,
  violations: string[],
  signal: AbortSignal,
): Promise<AutoReport['timer']> {
  const wake = await untilAwake(stage, before, plannedS * 1000 - Date.now() + WAKE_TIMEOUT_MS);
  if (wake.cause !== 'timer') violations.push(`expected a wake by a timer, got ${wake.cause}`);
  const wokenSecondsBefore = plannedS - Date.parse(wake.startedAt) / 1000;
  const awakeSecondsBefore = plannedS - Date.parse(wake.endedAt ?? '') / 1000;
  if (awakeSecondsBefore < 0) violations.push(`awake ${-awakeSecondsBefore} s after the timer’s time`);
  const firedS = await untilFired(stage, plannedS, signal);
  if (firedS === null) violations.push('expected the timer to fire in the guest, it did not');
  return {
    name: `${TIMER}.timer`,
    plannedAt: new Date(plannedS * 1000).toISOString(),
    cause: wake.cause ?? 'unknown',
    detail: wake.trigger?.detail ?? '',
    wokenSecondsBefore,
    awakeSecondsBefore,
    firedMsLate: firedS === null ? null : (firedS - plannedS) * 1000,
  };
}

async function untilFired(stage: Stage, plannedS: number, signal: AbortSignal): Promise<number | null> {
  await delay(Math.max(0, plannedS * 1000 - Date.now()), undefined, { signal });
  const deadline = (plannedS + 15) * 1000;
  for (;;) {
    const mark = await stage.inVm(['sh', '-c', `cat ${MARK} 2>/dev/null || true`]);
    if (mark.trim() !== '') return Number(mark);
    if (Date.now() > deadline) return null;
    await delay(POLL_MS, undefined, { signal });
  }
}

/** @param before id of an earlier unpark */
async function untilAwake(stage: Stage, before: string | undefined, timeoutMs: number) {
  const deadline = Date.now() + timeoutMs;
  for (;;) {
    const { state, lastUnpark } = await stage.service.explain(stage.vm);
    if (state === 'awake' && lastUnpark?.status === 'succeeded' && lastUnpark.id !== before)
      return lastUnpark;
    if (Date.now() > deadline)
      throw new SeamlessError('TIMEOUT', `Expected ${stage.vm} to be awake, is ${state}`);
    await delay(POLL_MS);
  }
}

/** As systemd reads it: `2026-01-05 12:00:00 UTC`. */
function clock(seconds: number): string {
  return new Date(seconds * 1000).toISOString().replace('T', ' ').replace('.000Z', ' UTC');
}
