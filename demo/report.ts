/** The demo's result: its JSON (keys fixed by users of it) and the same for people. */
import type { TriggerView } from './service.ts';

export interface Step {
  name: string;
  ms: number;
}

export interface Cycle {
  park: { ms: number; steps: Step[] };
  parked: {
    seconds: number;
    qemuStatus: string;
    pingsSent: number;
    pingsAnswered: number;
    arpsAnswered: number;
    keepalivesAnswered: number;
    residentMiB: number;
    /** With Docker sinks: what `docker ps` said. */
    containers?: string;
  };
  unpark: {
    cause: string;
    trigger: TriggerView | null;
    /** From the packet that woke the VM to the first reply of the VM, at the client. */
    responseMs: number;
    ms: number;
    steps: Step[];
  };
}

export interface ClientReport {
  name: string;
  kind: string;
  linesSent: number;
  linesReceived: number;
  resets: number;
  fins: number;
  reconnects: number;
}

export interface DemoReport {
  vm: {
    name: string;
    accel: string;
    memoryMiB: number;
    residentAwakeMiB: number;
    residentParkedMiB: number;
  };
  cycles: Cycle[];
  clients: ClientReport[];
  violations: string[];
}

/** Lines for a person. */
export function renderReport(report: DemoReport): string {
  const { vm } = report;
  const percent = Math.round((100 * vm.residentParkedMiB) / vm.memoryMiB);
  const lines = [
    '',
    `${vm.name}: ${vm.memoryMiB} MiB of memory, QEMU (${vm.accel})`,
    `  resident awake ${vm.residentAwakeMiB} MiB, parked ${vm.residentParkedMiB} MiB (${percent} % of its memory)`,
  ];
  report.cycles.forEach((cycle, index) => {
    const { park, parked, unpark } = cycle;
    lines.push(
      '',
      `Cycle ${index + 1}`,
      `  parked in ${seconds(park.ms)}: ${steps(park.steps)}`,
      `  for ${parked.seconds.toFixed(0)} s the VM was ${parked.qemuStatus} (${parked.residentMiB} MiB resident); answered for it: ` +
        `${parked.pingsAnswered} of ${parked.pingsSent} pings, ${parked.arpsAnswered} ARP, ${parked.keepalivesAnswered} ssh keep-alives`,
      ...(parked.containers?.split('\n').map((line) => `    ${line}`) ?? []),
      `  woken by ${unpark.trigger ? cause(unpark.trigger) : 'seamless unpark'}`,
      `  first reply from the VM after ${unpark.responseMs.toFixed(0)} ms; unparked in ${seconds(unpark.ms)}: ${steps(unpark.steps)}`,
    );
  });
  lines.push('', 'Clients, from before the first park to the end');
  for (const client of report.clients) {
    const { name, linesSent, linesReceived, resets, fins, reconnects } = client;
    const said = linesSent > 0 ? `${linesReceived} of ${linesSent} lines answered, ` : '';
    lines.push(`  ${name.padEnd(16)} ${said}${resets} resets, ${fins} FINs, ${reconnects} reconnects`);
  }
  lines.push('', report.violations.length === 0 ? 'Nobody noticed. No violations.' : 'VIOLATIONS');
  lines.push(...report.violations.map((violation) => `  ${violation}`));
  return lines.join('\n');
}

function cause(trigger: TriggerView): string {
  return trigger.program
    ? `${trigger.program}[${trigger.pid}]: ${trigger.detail}`
    : `a SYN ${trigger.detail}`;
}

function seconds(ms: number): string {
  return ms < 1000 ? `${ms.toFixed(0)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

function steps(all: Step[]): string {
  return all.map((step) => `${step.name} ${step.ms.toFixed(0)}`).join(' · ');
}
