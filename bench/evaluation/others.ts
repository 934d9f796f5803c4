/** Benchmarks that are programs of their own, told by their `--json`. */
import { join } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';
import { exec } from '../../common/exec.ts';
import type { Neighbour } from '../parking-neighbour.ts';
import type { Surface } from '../surface/main.ts';
import { SOURCE } from './bed.ts';

const TIMEOUT_MS = 600_000;

export interface FilterRow {
  what: string;
  unit: 'µs' | '% of a core';
  untraced: number;
  traced: number;
}

/** What the syscall filter costs: bench/syscall-cost.ts. */
export async function filterCost(quick: boolean): Promise<{ rows: FilterRow[] }> {
  type Pair = { untraced: number; traced: number };
  const found = await run<Record<'cheapUs' | 'recvUs' | 'idlePercent', Pair>>('syscall-cost.ts', [
    '--seconds',
    quick ? '5' : '30',
  ]);
  return {
    rows: [
      { what: 'a call that needs no look (`getppid`)', unit: 'µs', ...found.cheapUs },
      { what: 'a call on a TCP socket (`recv`)', unit: 'µs', ...found.recvUs },
      { what: 'an idle daemon with 10 polls a second', unit: '% of a core', ...found.idlePercent },
    ],
  };
}

/** Ten thousand VMs that report: bench/idle.ts. */
export async function idleScale(quick: boolean): Promise<{ rows: Record<string, number>[] }> {
  return { rows: [await run<Record<string, number>>('idle.ts', ['--rounds', quick ? '2' : '6'])] };
}

/** The API, its streams and webhooks with ten thousand VMs: bench/surface/main.ts. */
export function surface(quick: boolean): Promise<Surface> {
  return run<Surface>('surface/main.ts', ['--seconds', quick ? '5' : '30']);
}

/** What a VM that is awake feels of its neighbour's switch-off: bench/parking-neighbour.ts. */
export function neighbour(quick: boolean): Promise<Neighbour> {
  return run<Neighbour>('parking-neighbour.ts', quick ? ['--quick'] : []);
}

/** A program that misses its goals exits 1 and has told its figures all the same. */
async function run<T>(program: string, args: readonly string[]): Promise<T> {
  const argv = [
    process.execPath,
    '--disable-warning=ExperimentalWarning',
    join(SOURCE, 'bench', program),
  ] as const;
  const output = await exec([...argv, '--json', ...args], { timeoutMs: TIMEOUT_MS }).then(
    ({ stdout }) => stdout,
    (error: SeamlessError) => String(error.details['output']),
  );
  const json = output.split('\n').find((line) => line.startsWith('{'));
  if (json) return JSON.parse(json) as T;
  throw new SeamlessError(
    'COMMAND_FAILED',
    `Expected ${program} to tell its figures, got ${output.slice(-300)}`,
  );
}
