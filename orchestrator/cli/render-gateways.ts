/** `seamless show VM --gateways` for people: the gateway set as a tree, who listens where, and what speaks against parking. Pure. */
import type { GatewayProcess, GatewayScan, Refusal } from '../../vm-agent/api.ts';

const NAMED_PROCESSES = 3;

export function gatewaysText(scan: GatewayScan): string {
  const { processes } = scan;
  const pids = new Set(processes.map(({ pid }) => pid));
  const roots = processes.filter(({ parent }) => !pids.has(parent));
  const size = `an image of about ${Math.ceil(scan.imageBytes / 2 ** 20)} MiB`;
  const trees = roots.length === 1 ? '1 tree' : `${roots.length} trees`;
  return [
    processes.length === 0
      ? 'No process listens on the production network: nothing would answer for the VM.'
      : `Gateway processes: ${processes.length} in ${trees}, ${size}`,
    ...roots.flatMap((root) => branch(root, null, '', processes)),
    ...listening(scan),
    ...verdict(scan),
  ].join('\n');
}

/** A process, and below it those it has started. */
function branch(
  process: GatewayProcess,
  parent: GatewayProcess | null,
  indent: string,
  processes: readonly GatewayProcess[],
): string[] {
  const { program, pid, unit, because } = process;
  const where = unit === parent?.unit ? '' : `  ${unit}`;
  const children = processes.filter((other) => other.parent === pid);
  return [
    `${indent}${program}[${pid}]${where}  (${because})`,
    ...children.flatMap((child, index) => {
      const isLast = index === children.length - 1;
      const bare = indent.replace('├─ ', '│  ').replace('└─ ', '   ');
      return branch(child, process, `${bare}${isLast ? '└─ ' : '├─ '}`, processes);
    }),
  ];
}

function listening({ listeners }: GatewayScan): string[] {
  if (listeners.length === 0) return [];
  const holders = new Map<string, string[]>();
  for (const { protocol, address, port, program, pid } of listeners) {
    const at = `${protocol} ${address.includes(':') ? `[${address}]` : address}:${port}`;
    holders.set(at, [...(holders.get(at) ?? []), `${program}[${pid}]`]);
  }
  return ['Listening:', ...[...holders].map(([at, names]) => `  ${at}  ${named(names)}`)];
}

function verdict({ processes, refusals }: GatewayScan): string[] {
  if (refusals.length === 0) return processes.length > 0 ? ['Can be parked.'] : [];
  // Ten workers of a server are refused for one and the same reason.
  const alike = new Map<string, Refusal[]>();
  for (const refusal of refusals) {
    const key = [refusal.rule, refusal.reason, refusal.descriptor?.replace(/^\d+ → /, '')].join('\n');
    alike.set(key, [...(alike.get(key) ?? []), refusal]);
  }
  return [
    `Can’t be parked, for ${alike.size === 1 ? 'one reason' : `${alike.size} reasons`}:`,
    ...[...alike.values()].flatMap((group) => {
      const [{ rule, descriptor, reason, remedy } = { rule: '', reason: '', remedy: '' }] = group;
      const names = named(group.map(({ program, pid }) => (pid > 0 ? `${program}[${pid}]` : program)));
      return [`  ${names}${descriptor ? `, ${descriptor}` : ''}: ${reason} (${rule})`, `    → ${remedy}`];
    }),
  ];
}

function named(names: readonly string[]): string {
  const shown = names.slice(0, NAMED_PROCESSES).join(', ');
  return names.length > NAMED_PROCESSES ? `${shown} and ${names.length - NAMED_PROCESSES} more` : shown;
}
