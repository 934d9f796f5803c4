/** What the CLI prints for people. Pure. */
import type { GatewayScan } from '../../vm-agent/api.ts';
import type { ApiEvent } from '../api/events.ts';
import type { VmDetail, VmSummary } from '../api/vms.ts';
import type { Operation } from '../vm/operation.ts';
import type { Wake } from '../vm/state.ts';
import { wakeLine } from '../vm/wake.ts';

export function vmTable(vms: readonly VmSummary[]): string {
  if (vms.length === 0) return 'No VM is registered.';
  const rows = vms.map(({ name, state, since, host, sink, addresses }) => [
    name,
    state,
    since,
    host,
    sink,
    addresses.join(' '),
  ]);
  return table([['VM', 'STATE', 'SINCE', 'HOST', 'SINK', 'ADDRESSES'], ...rows]);
}

export function vmText(vm: VmDetail): string {
  const memory = vm.residentBytes === null ? 'unknown' : `${mebibytes(vm.residentBytes)} MiB`;
  const lines = [
    ['VM', vm.name],
    ['state', `${vm.state} since ${vm.since}`],
    ['addresses', vm.addresses.join(' ')],
    ['host', `${vm.host}, sink server ${vm.sink}, template ${vm.template}`],
    ['QEMU', `${vm.qemuStatus ?? 'does not answer'}, resident memory ${memory}`],
    ...(vm.operation ? [['operation', vm.operation]] : []),
    ...(vm.lastPark ? [['last park', operationLine(vm.lastPark)]] : []),
    ...(vm.lastUnpark ? [['last unpark', operationLine(vm.lastUnpark)]] : []),
    ...(vm.stuck ? [['stuck', `at ${vm.stuck.step}: ${vm.stuck.message}`]] : []),
    ...(vm.stuck ? [['do', vm.stuck.next]] : []),
  ];
  return [table(lines), ...(vm.gateways ? ['', scanText(vm.gateways)] : [])].join('\n');
}

export function scanText({ processes, listeners, refusals }: GatewayScan): string {
  const lines = processes.map(
    ({ program, pid, unit, because }) => `${program}[${pid}] of ${unit}: ${because}`,
  );
  const ports = listeners.map(
    ({ protocol, address, port, program }) => `${protocol} ${address}:${port} ${program}`,
  );
  const reasons = refusals.map(
    ({ program, pid, reason, remedy }) => `${program}[${pid}]: ${reason}; ${remedy}`,
  );
  return [
    `Gateway processes: ${lines.length}`,
    ...lines.map((line) => `  ${line}`),
    `Listening: ${ports.join(', ') || 'nothing'}`,
    ...(reasons.length > 0
      ? ['Can’t be parked:', ...reasons.map((line) => `  ${line}`)]
      : ['Can be parked.']),
  ].join('\n');
}

/** Why the VM is as it is, in one or two lines. */
export function explanation(vm: VmDetail): string {
  const lines = [`${vm.name} is ${vm.state} since ${vm.since}`];
  if (vm.stuck) lines.push(`it got stuck at ${vm.stuck.step}: ${vm.stuck.message}`, vm.stuck.next);
  if (vm.lastUnpark?.cause) lines.push(`${wakeLine(wakeOf(vm.lastUnpark))} at ${vm.lastUnpark.startedAt}`);
  if (vm.lastPark && vm.lastPark.status !== 'succeeded' && vm.lastPark.error) {
    lines.push(`its last park was taken back: ${vm.lastPark.error.message}`);
  }
  return lines.join('\n');
}

export function operationLine(operation: Operation): string {
  const { kind, status, ms, error } = operation;
  const because = operation.cause ? `, ${wakeLine(wakeOf(operation))}` : '';
  const failed = error ? `: ${error.message}` : '';
  return `${kind} ${status}${ms === null ? '' : ` in ${ms} ms`}${because}${failed}`;
}

export function eventLine({ time, vm, type, event, step, ms, error, operation }: ApiEvent): string {
  const what = type === 'vm' ? `is ${event}` : type === 'step' ? `${step} ${event}` : `${operation} ${event}`;
  const took = ms === null ? '' : ` ${ms} ms`;
  return `${time} ${vm} ${what}${took}${error ? `: ${error.message}` : ''}`;
}

function wakeOf({ cause, trigger }: Operation): Wake {
  return { cause, trigger } as Wake;
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 1024 / 1024);
}

function table(rows: readonly (readonly string[])[]): string {
  const widths = rows.reduce<number[]>(
    (all, row) => row.map((cell, i) => Math.max(all[i] ?? 0, cell.length)),
    [],
  );
  return rows
    .map((row) =>
      row
        .map((cell, i) => cell.padEnd(widths[i] ?? 0))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
