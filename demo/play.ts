/** The three cycles, and what they are judged by. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Packet } from './capture.ts';
import { clientReports } from './client-reports.ts';
import { quietFacts, responseMs } from './observe.ts';
import type { Cycle, DemoReport } from './report.ts';
import { type OperationView, view } from './service.ts';
import type { Stage } from './stage.ts';

const WAKE_TIMEOUT_MS = 60_000;
/** Of the VM's memory, while it is parked. */
const MOST_RESIDENT = 0.25;

/** How a cycle ends: the act that brings the VM back, and the packet from which the client waits. */
interface Wake {
  cause: 'syscall' | 'syn' | 'manual';
  act(): Promise<Packet>;
}

export interface PlayOptions {
  /** How long the VM stays parked in each cycle. */
  parkedSeconds?: number;
}

export async function playDemo(
  stage: Stage,
  say: (text: string) => void,
  signal: AbortSignal,
  { parkedSeconds = 20 }: PlayOptions = {},
): Promise<DemoReport> {
  const violations: string[] = [];
  const sshBefore = await stage.sshUnit();
  const residentAwakeMiB = await stage.residentMiB();
  const cycles: Cycle[] = [];
  for (const wake of wakes(stage, violations)) {
    say(`cycle ${cycles.length + 1} of 3: seamless park ${stage.vm}`);
    cycles.push(await playCycle(stage, wake, violations, say, signal, parkedSeconds));
    await stage.echo.send(WAKE_TIMEOUT_MS);
    violations.push(...(await sshFaults(stage, sshBefore)));
  }
  const { reports: clients, faults } = clientReports(stage);
  violations.push(...faults);
  const vm = { name: stage.vm, accel: stage.accel, memoryMiB: stage.memoryMiB, residentAwakeMiB };
  const residentParkedMiB = Math.max(...cycles.map((cycle) => cycle.parked.residentMiB));
  return { vm: { ...vm, residentParkedMiB }, cycles, clients, violations };
}

async function playCycle(
  stage: Stage,
  wake: Wake,
  violations: string[],
  say: (text: string) => void,
  signal: AbortSignal,
  parkedSeconds: number,
): Promise<Cycle> {
  const park = await stage.service.park(stage.vm);
  const from = Date.now() / 1000;
  await stage.forgetNeighbour();
  say(`  parked in ${Math.round(park.ms)} ms; leaving it so for ${parkedSeconds} s`);
  await delay(parkedSeconds * 1000, undefined, { signal });
  const to = Date.now() / 1000;
  const shown = await stage.service.show(stage.vm);
  if (shown.state !== 'parked')
    violations.push(`expected ${stage.vm} to be parked after ${parkedSeconds} s, is ${shown.state}`);
  const qemuStatus = shown.qemuStatus ?? 'unknown';
  if (qemuStatus !== 'paused') violations.push(`expected QEMU to be paused while parked, is ${qemuStatus}`);
  const residentMiB = await stage.residentMiB();
  if (residentMiB > stage.memoryMiB * MOST_RESIDENT) {
    violations.push(
      `expected at most ${MOST_RESIDENT * 100} % of ${stage.memoryMiB} MiB in memory while parked, are ${residentMiB} MiB`,
    );
  }
  // A ping of the last second may still be on its way: it is judged when its answer could have come.
  const quiet = quietFacts(stage.wire.packets, stage.address, stage.idleSsh.port, from, to - 0.5);
  if (quiet.pingsAnswered < quiet.pingsSent || quiet.pingsSent < parkedSeconds - 3) {
    violations.push(`pings while parked: ${quiet.pingsAnswered} of ${quiet.pingsSent} answered`);
  }
  if (quiet.arpsAnswered === 0) violations.push('no ARP request was answered while parked');
  if (quiet.keepalivesAnswered < parkedSeconds - 3) {
    violations.push(`ssh keep-alives while parked: ${quiet.keepalivesAnswered} answered`);
  }
  const containers = await stage.containers();
  if (containers !== null) say(containers.replace(/^/gm, '  '));
  if (containers !== null && !containers.includes(stage.vm))
    violations.push(`expected a container of ${stage.vm} while parked, docker ps says ${containers}`);
  const docker = containers === null ? {} : { containers };
  const parked = { seconds: to - from, qemuStatus, ...quiet, residentMiB, ...docker };

  const sent = await wake.act();
  const response = await responseMs(stage.wire, stage.tap, sent, WAKE_TIMEOUT_MS);
  const unpark = await awake(stage, shown.lastUnpark?.id);
  if (unpark.cause !== wake.cause) violations.push(`expected a wake by ${wake.cause}, got ${unpark.cause}`);
  say(
    `  woken by ${unpark.trigger?.detail ?? 'seamless unpark'}; first reply after ${Math.round(response)} ms`,
  );
  return {
    park: { ms: park.ms, steps: park.steps },
    parked,
    unpark: {
      cause: unpark.cause ?? 'unknown',
      trigger: unpark.trigger,
      responseMs: response,
      ms: unpark.ms,
      steps: unpark.steps,
    },
  };
}

function* wakes(stage: Stage, violations: string[]): Generator<Wake> {
  yield {
    cause: 'syscall',
    // `env` is a program of its own: the shell must fork for it, which only the VM may do.
    act: async () => {
      let packets = 0;
      const command = 'env printf "%s\\n" "variable: $SEAMLESS_DEMO"';
      const output = await stage.shell.run(command, WAKE_TIMEOUT_MS, () => {
        packets = stage.wire.packets.length;
      });
      if (!output.includes(`variable: ${stage.secret}`)) {
        violations.push(`expected the command to print the variable’s value ${stage.secret}, got ${output}`);
      }
      return firstSent(stage, packets, stage.shell.port, 'the Enter key');
    },
  };
  const isSyn = (packet: Packet) => packet.destination === stage.address && packet.flags === 'S';
  yield {
    cause: 'syn',
    act: async () => {
      const packets = stage.wire.packets.length;
      const output = await stage.newLogin('env printf welcome', WAKE_TIMEOUT_MS);
      if (output !== 'welcome') violations.push(`expected a new login to print welcome, got ${output}`);
      const syn = await stage.wire.waitFor('the SYN of the new login', isSyn, 1000, packets);
      // A wake that takes longer than a second sees the SYN again; what counts is which one the VM answers.
      const answers = (packet: Packet) =>
        packet.flags.startsWith('S') &&
        packet.destinationPort === syn.sourcePort &&
        packet.source === stage.address;
      const answer = await stage.wire.waitFor('its answer', answers, 1000, packets);
      if (answer.timestamp?.echo !== syn.timestamp?.value) {
        violations.push(
          'the new login was answered at a retransmission of its SYN, not at the one that was held',
        );
      }
      return syn;
    },
  };
  yield {
    cause: 'manual',
    // Something is on its way to the VM while it comes back: it must wait, and arrive.
    act: async () => {
      const packets = stage.wire.packets.length;
      const unparking = stage.service.unpark(stage.vm);
      await stage.unparkStarted();
      const echoed = stage.echo.send(WAKE_TIMEOUT_MS);
      await Promise.all([unparking, echoed]);
      return firstSent(stage, packets, stage.echo.port, 'the echo line');
    },
  };
}

function firstSent(stage: Stage, from: number, port: number, what: string): Promise<Packet> {
  const matches = (packet: Packet) =>
    packet.sourcePort === port && packet.destination === stage.address && packet.length > 0;
  return stage.wire.waitFor(what, matches, 1000, from);
}

/** Waits until the VM is awake again and gives the unpark that did it. @param before id of an earlier one */
async function awake(stage: Stage, before: string | undefined): Promise<OperationView> {
  const deadline = Date.now() + WAKE_TIMEOUT_MS;
  for (;;) {
    const { state, lastUnpark } = await stage.service.show(stage.vm);
    if (state === 'awake' && lastUnpark?.status === 'succeeded' && lastUnpark.id !== before) {
      return view(lastUnpark);
    }
    if (Date.now() > deadline) throw new Error(`Expected ${stage.vm} to be awake, is ${state}`);
    await delay(100);
  }
}

async function sshFaults(stage: Stage, before: Record<string, string>): Promise<string[]> {
  const after = await stage.sshUnit();
  return Object.keys(before)
    .filter((key) => before[key] !== after[key])
    .map((key) => `systemd’s view of ssh.service changed: ${key} was ${before[key]}, is ${after[key]}`);
}
