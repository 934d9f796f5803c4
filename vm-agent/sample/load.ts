/**
 * CPU time of all processes but the gateway processes and the agent, as a counter. The sum over those that live is one, as long as who ends is
 * reaped: a parent has its children's time. But a process may come into the gateway set or leave it, and then a difference of two sums
 * would tell of its whole life: so both are taken over the same processes.
 */
import type { ProcessUsage } from '../usage.ts';

type Times = readonly Pick<ProcessUsage, 'pid' | 'cpuMs'>[];

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
