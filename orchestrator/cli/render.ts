/** What the CLI prints for people. Pure. */
import type { ApiEvent } from '../api/events.ts';
import type { VmDetail, VmSummary } from '../api/vms.ts';
import type { HostLoss } from '../host/reachability.ts';
import type { HostMemory } from '../memory/ledger.ts';
import { describeSwap } from '../memory/swap-medium.ts';
import type { HypervisorLoss } from '../vm/hypervisor-watch.ts';
import type { Operation } from '../vm/operation.ts';
import type { Wake } from '../vm/state.ts';
import { wakeLine } from '../vm/wake.ts';
import { type ClientView, verdictLine, type WakeCounts, type WakeReport } from '../vm/wake-report.ts';
import type { Paint } from './colour.ts';
import { gatewaysText } from './render-gateways.ts';

export function vmTable(vms: readonly VmSummary[], paint: Paint = (_state, text) => text): string {
  if (vms.length === 0) return 'No VM is registered.';
  const rows = vms.map((vm) => [
    vm.name,
    stateWords(vm),
    at(vm.since),
    vm.host,
    vm.sink,
    vm.addresses.join(' '),
  ]);
  const all = [['VM', 'STATE', 'SINCE', 'HOST', 'SINK', 'ADDRESSES'], ...rows];
  return table(all, (cell, row, column) => (column === 1 ? paint(vms[row - 1]?.state ?? '', cell) : cell));
}

export function vmText(vm: VmDetail, host: HostMemory | null = null): string {
  const memory = vm.residentBytes === null ? 'unknown' : `${mebibytes(vm.residentBytes)} MiB`;
  const lines = [
    ['VM', vm.name],
    ['state', `${stateWords(vm)} since ${at(vm.since)}`],
    ['addresses', vm.addresses.join(' ')],
    ['host', `${vm.host}, sink server ${vm.sink}, template ${vm.template}`],
    ['QEMU', `${vm.qemuStatus ?? 'does not answer'}, resident memory ${memory}`],
    ...(host ? [['host memory', hostMemoryLine(host)]] : []),
    ...(host ? [['swap', describeSwap(host.swap)]] : []),
    ...(vm.operation ? [['operation', vm.operation]] : []),
    ...(vm.lastPark ? [['last park', operationLine(vm.lastPark)]] : []),
    ...(vm.lastUnpark ? [['last unpark', operationLine(vm.lastUnpark)]] : []),
    ...(vm.lastWake && vm.lastWake.verdict !== 'not judged' ? [['', verdictLine(vm.lastWake)]] : []),
    ...(vm.wakes.false > 0 ? [['wakes', countLine(vm.wakes).replace('wakes so far: ', '')]] : []),
    ...(vm.hostLost ? [['unreachable', hostLine(vm.hostLost)]] : []),
    ...(vm.hostLost ? [['do', vm.hostLost.next]] : []),
    ...(vm.outside ? [['outside', vm.outside]] : []),
    ...(vm.hypervisorLost ? [['lost', lossLine(vm.hypervisorLost)]] : []),
    ...(vm.hypervisorLost ? [['do', vm.hypervisorLost.next]] : []),
    ...(vm.stuck ? [['stuck', `at ${vm.stuck.step}: ${vm.stuck.message}`]] : []),
    ...(vm.stuck ? [['do', vm.stuck.next]] : []),
  ];
  return [table(lines), ...(vm.gateways ? ['', gatewaysText(vm.gateways)] : [])].join('\n');
}

function hostMemoryLine(host: HostMemory): string {
  const [free, total, given, resident, swapped, freed] = [
    ...[host.availableBytes, host.totalBytes, host.committedBytes],
    ...[host.residentBytes, host.swappedBytes, host.freedBytes],
  ].map(mebibytes);
  const waiting = host.waiting.length > 0 ? `; waiting to wake: ${host.waiting.join(', ')}` : '';
  return `${free} of ${total} MiB free; its VMs: ${given} given, ${resident} resident, ${swapped} swapped, ${freed} freed${waiting}`;
}

/** Why the VM is as it is: its state, what woke it, what the clients saw of that, and whether it was needed. */
export function explanation(vm: VmDetail): string {
  const lines = [`${vm.name} is ${stateWords(vm)} since ${at(vm.since)}`];
  if (vm.hostLost) lines.push(hostLine(vm.hostLost), vm.hostLost.next);
  if (vm.stuck) lines.push(`it got stuck at ${vm.stuck.step}: ${vm.stuck.message}`, vm.stuck.next);
  if (vm.outside) lines.push(vm.outside);
  if (vm.hypervisorLost) lines.push(lossLine(vm.hypervisorLost), vm.hypervisorLost.next);
  if (vm.lastWake) lines.push(...wakeLines(vm.lastWake));
  if (vm.wakes.used + vm.wakes.false + vm.wakes.unknown > 0) lines.push(countLine(vm.wakes));
  if (vm.lastPark && vm.lastPark.status !== 'succeeded' && vm.lastPark.error) {
    lines.push(`its last park was taken back: ${vm.lastPark.error.message}`);
  }
  return lines.join('\n');
}

/** The same as JSON (docs/wakes.md). */
export function explained(vm: VmDetail): object {
  const { name, state, recordedState, since, stuck, hostLost, hypervisorLost } = vm;
  const { lastPark, lastUnpark, lastWake, wakes } = vm;
  const is = { state, recordedState, since, hostLost, stuck };
  return { vm: name, name, ...is, hypervisorLost, lastWake, wakes, lastPark, lastUnpark };
}

/** `wakes so far: 3 needed, 1 false (by rule: file.name 1), 1 unknown` */
function countLine({ used, false: wrong, unknown, falseByRule }: WakeCounts): string {
  const rules = falseByRule.map(({ rule, count }) => `${rule} ${count}`).join(', ');
  const doubt = unknown > 0 ? `, ${unknown} unknown` : '';
  return `wakes so far: ${used} needed, ${wrong} false${rules ? ` (by rule: ${rules})` : ''}${doubt}`;
}

function wakeLines(wake: WakeReport): string[] {
  const rule = wake.rule ? ` (rule ${wake.rule})` : '';
  const seen = seenLine(wake.seen);
  return [
    `${wake.line}${rule}, at ${at(wake.at)}`,
    ...(seen ? [`  ${seen}`] : []),
    ...(wake.verdict === 'not judged' ? [] : [`  ${verdictLine(wake)}`]),
  ];
}

/** What the clients saw of a wake. */
function seenLine({ unparkMs, firstHeldMs, heldPackets, heldConnections, sinkAnswers }: ClientView): string {
  const parts: string[] = [];
  if (unparkMs !== null) parts.push(`awake after ${duration(unparkMs)}`);
  if (heldPackets === 0) parts.push('no packet had to wait');
  else if (heldPackets !== null) parts.push(waitedLine(heldPackets, heldConnections ?? 0, firstHeldMs));
  if (sinkAnswers) parts.push(`the sink sent ${sinkAnswers} more meanwhile`);
  return parts.join('; ');
}

/** `3 packets and 1 connection request waited, the first for 144 ms` */
function waitedLine(all: number, requests: number, firstMs: number | null): string {
  const kinds = [count(all - requests, 'packet'), count(requests, 'connection request')].filter(Boolean);
  const longest = firstMs === null ? '' : `${all > 1 ? ', the first for' : ''} ${duration(firstMs)}`;
  return `${kinds.join(' and ')} waited${longest}`;
}

function count(number: number, what: string): string {
  return number === 0 ? '' : `${number} ${what}${number === 1 ? '' : 's'}`;
}

/** `unknown, last parked`: who reads it sees that nobody can look, and what is known. */
function stateWords({ state, recordedState, hostLost, hypervisorLost }: VmSummary): string {
  const word = state === recordedState ? state : `${state}, last ${recordedState}`;
  if (hostLost) return state === 'unknown' ? word : `${word}, host unreachable`;
  return hypervisorLost ? `${word}, QEMU gone` : word;
}

function hostLine({ host, since, reason }: HostLoss): string {
  return `its host ${host} can’t be reached (since ${at(since)}): ${reason}`;
}

function lossLine({ since, reason }: HypervisorLoss): string {
  return `its QEMU has gone (noticed at ${at(since)}): ${reason}`;
}

export function operationLine(operation: Operation): string {
  const { kind, status, ms, error } = operation;
  const because = causeOf(operation);
  const failed = error ? `: ${error.message}` : '';
  return `${kind} ${status}${ms === null ? '' : ` in ${ms} ms`}${because}${failed}`;
}

function causeOf(operation: Operation): string {
  const { kind, cause, rule } = operation;
  if (kind === 'unpark') return cause ? `, ${wakeLine(wakeOf(operation))}` : '';
  return rule ? `, nobody used it: ${rule}` : '';
}

/** One line of `seamless events`; null for what another line says already. */
export function eventLine(apiEvent: ApiEvent): string | null {
  const said = eventText(apiEvent);
  return said === null ? null : `${at(apiEvent.time)}  ${apiEvent.vm}  ${said}`;
}

function eventText({ type, event, step, ms, error, operation, detail }: ApiEvent): string | null {
  const failed = error ? `: ${error.message}` : '';
  const took = ms === null ? '' : ` in ${duration(ms)}`;
  switch (type) {
    case 'wake':
    case 'hypervisor':
    case 'policy':
      return detail;
    case 'vm':
      // The operation’s own line has just said that it began.
      if (event === 'parking' || event === 'unparking') return null;
      return `is ${event}${detail ? `: ${detail}` : ''}`;
    case 'outside':
      return detail;
    case 'operation': {
      const name = operation?.split('-')[0] ?? 'operation';
      if (event === 'started') return `${name} started (${operation})${detail ? `: ${detail}` : ''}`;
      const word = event === 'unwound' ? 'was taken back' : event;
      return `${name} ${word}${took}${failed}`;
    }
    case 'step':
      return `  ${step} ${event}${took}${failed}`;
  }
}

function duration(ms: number): string {
  return ms < 1000 ? `${Math.round(ms)} ms` : `${(ms / 1000).toFixed(1)} s`;
}

/** `2026-11-21 15:04:01Z` */
function at(iso: string): string {
  return iso.replace('T', ' ').replace(/\.\d+Z$/, 'Z');
}

function wakeOf({ cause, trigger }: Operation): Pick<Wake, 'cause' | 'trigger'> {
  return { cause, trigger } as Pick<Wake, 'cause' | 'trigger'>;
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 1024 / 1024);
}

type PaintCell = (cell: string, row: number, column: number) => string;

export function table(rows: readonly (readonly string[])[], paint: PaintCell = (cell) => cell): string {
  const widths = rows.reduce<number[]>(
    (all, row) => row.map((cell, i) => Math.max(all[i] ?? 0, cell.length)),
    [],
  );
  return rows
    .map((row, at) =>
      row
        .map((cell, i) => paint(cell.padEnd(widths[i] ?? 0), at, i))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}
