/** The result of `demo --auto`: its JSON and the same for people. */
import type { ClientReport, DemoReport } from './report.ts';
import type { Explained, TriggerView } from './service.ts';

export interface AutoReport {
  vm: Pick<DemoReport['vm'], 'name' | 'accel' | 'memoryMiB'> & {
    /** null for a native VM: it is no process. */
    residentAwakeMiB: number | null;
    residentParkedMiB: number | null;
  };
  /** How the service found it idle: seconds from the last use to the decision, and the rule. */
  found: {
    seconds: number;
    windowSeconds: number;
    rule: string;
    parkMs: number;
  };
  /** What came while it was parked, and left it so. */
  probes: {
    seconds: number;
    pingsSent: number;
    pingsAnswered: number;
    arpsAnswered: number;
    keepalivesAnswered: number;
    portsScanned: number;
    healthChecks: number;
  };
  user: { cause: string; trigger: TriggerView | null; responseMs: number };
  /** How long it then stayed awake, though nobody used it; what each signal was at the end. */
  grace: { seconds: number; expectedSeconds: number; rules: string[]; signals: Explained['signals'] };
  timer: {
    name: string;
    plannedAt: string;
    cause: string;
    detail: string;
    /** From the wake's beginning, and from its end, to the timer. */
    wokenSecondsBefore: number;
    awakeSecondsBefore: number;
    /** By the guest's clock. */
    firedMsLate: number | null;
  };
  clients: ClientReport[];
  violations: string[];
}

/** Lines for a person. */
export function renderAuto(report: AutoReport): string {
  const { vm, found, probes, user, grace, timer, clients, violations } = report;
  const resident =
    vm.residentAwakeMiB === null
      ? []
      : [`  resident awake ${vm.residentAwakeMiB} MiB, parked ${vm.residentParkedMiB} MiB`];
  const lines = [
    '',
    `${vm.name}: ${vm.memoryMiB} MiB of memory, ${vm.accel === 'native' ? 'native' : `QEMU (${vm.accel})`}; nobody gave an order`,
    ...resident,
    '',
    'Found idle',
    `  ${found.seconds.toFixed(0)} s after the last use, by a window of ${found.windowSeconds} s: ${found.rule}; parked in ${seconds(found.parkMs)}`,
    '',
    `Probed for ${probes.seconds.toFixed(0)} s, and still parked`,
    `  ${probes.pingsAnswered} of ${probes.pingsSent} pings, ${probes.arpsAnswered} ARP, ${probes.keepalivesAnswered} ssh keep-alives and ` +
      `${probes.healthChecks} health checks were answered, ${probes.portsScanned} closed ports refused`,
    '',
    'A user comes',
    `  woken by ${user.trigger?.program}[${user.trigger?.pid}]: ${user.trigger?.detail}; first reply from the VM after ${user.responseMs.toFixed(0)} ms`,
    `  then quiet, and awake for ${grace.seconds.toFixed(0)} s (a grace of ${grace.expectedSeconds} s): ${grace.rules.join(' → ')}`,
    ...grace.signals.map(
      ({ name, state, value, threshold }) =>
        `    ${name.padEnd(9)} ${state.padEnd(8)}${value === null ? 'none' : `${value} (limit ${threshold})`}`,
    ),
    '',
    'A timer comes',
    `  woken because ${timer.detail}`,
    `  ${timer.wokenSecondsBefore.toFixed(1)} s ahead of it, awake again ${timer.awakeSecondsBefore.toFixed(1)} s ahead; it fired in the guest ` +
      (timer.firedMsLate === null ? 'never' : `${timer.firedMsLate.toFixed(0)} ms after its time`),
    '',
    'Clients, from before the first park to the end',
    ...clients.map(({ name, linesSent, linesReceived, resets, fins, reconnects }) => {
      const said = linesSent > 0 ? `${linesReceived} of ${linesSent} lines answered, ` : '';
      return `  ${name.padEnd(16)} ${said}${resets} resets, ${fins} FINs, ${reconnects} reconnects`;
    }),
    '',
    violations.length === 0 ? 'Nobody noticed. No violations.' : 'VIOLATIONS',
    ...violations.map((violation) => `  ${violation}`),
  ];
  return lines.join('\n');
}

function seconds(ms: number): string {
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`;
}
