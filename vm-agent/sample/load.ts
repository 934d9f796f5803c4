/**
 * CPU time as counters that never go back: only what was added since the last reading counts, and who ends unreaped takes nothing along.
 */
import type { ProcessUsage } from '../usage.ts';

type Times = readonly Pick<ProcessUsage, 'pid' | 'cpuMs'>[];

/**
 * Of everything but the agent. The kernel's table counts by ticks and a process's time is exact: the difference of the two can lag by more and
 * more, and what is done in interrupts and by the kernel's threads is in the table alone. So the greater of both.
 */
export class BusyMeter {
  #before: readonly [number, number] | null = null;
  #totalMs = 0;

  read(ofProcesses: number, ofMachine: number): number {
    const [processes, machine] = this.#before ?? [ofProcesses, ofMachine];
    this.#totalMs += Math.max(0, ofProcesses - processes, ofMachine - machine);
    this.#before = [ofProcesses, ofMachine];
    return this.#totalMs;
  }
}

/**
 * Of all processes but the gateway processes and the agent. The sum over those that live is one, as long as who ends is
 * reaped: a parent has its children's time. But a process may come into the gateway set or leave it, and then a difference of two sums
 * would tell of its whole life: so both are taken over the same processes.
 */
export class LoadMeter {
  #before: Times | null = null;
  #gateway: ReadonlySet<number> = new Set();
  #totalMs = 0;

  read(now: Times, gateway: ReadonlySet<number>): number {
    const either = this.#gateway.union(gateway);
    const othersOf = (times: Times) =>
      times.reduce((sum, { pid, cpuMs }) => (either.has(pid) ? sum : sum + cpuMs), 0);
    if (this.#before) this.#totalMs += Math.max(0, othersOf(now) - othersOf(this.#before));
    this.#before = now;
    this.#gateway = gateway;
    return this.#totalMs;
  }
}
