/**
 * What Prometheus reads at /metrics. Everything that happened is taken from the journal's records as they come, by one
 * subscriber, and everything that is now is asked for when somebody reads; nothing else in the service knows of metrics.
 * docs/api.md has a line for each.
 */
import { Counter, collectDefaultMetrics, Gauge, Histogram, Registry } from 'prom-client';
import type { ErrorBody } from '../../common/errors.ts';
import { type ManagedVm, shownState } from '../api/vms.ts';
import type { Journal, JournalRecord } from '../saga/journal.ts';
import { MemorySaved } from './memory-saved.ts';

export interface MetricsDeps {
  vms: ReadonlyMap<string, ManagedVm>;
  journal: Journal;
  /** Hosts whose switch answers, and those whose doesn’t. */
  hosts(): { name: string; reachable: boolean }[];
  now?: () => number;
}

export interface Metrics {
  readonly contentType: string;
  text(): Promise<string>;
  close(): void;
}

/** From a step that only looks to a suspend of many gigabytes. */
const SECONDS = [0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30, 60, 120];

export function startMetrics({ vms, journal, hosts, now = Date.now }: MetricsDeps): Metrics {
  const registry = new Registry();
  collectDefaultMetrics({ register: registry });
  const memory = new MemorySaved(vms, journal, now);
  gauges(registry, vms, hosts, memory);
  const hear = counters(registry);
  const stop = journal.subscribe((record) => {
    memory.hear(record);
    hear(record);
  });
  return {
    contentType: registry.contentType,
    text: () => registry.metrics(),
    close() {
      stop();
      registry.clear();
    },
  };
}

/** What is now. */
function gauges(
  registry: Registry,
  vms: ReadonlyMap<string, ManagedVm>,
  hosts: MetricsDeps['hosts'],
  memory: MemorySaved,
): void {
  const registers = [registry];
  new Gauge({
    ...{ registers, name: 'seamless_vms', help: 'Registered VMs by state.', labelNames: ['state'] },
    collect() {
      const counts = { awake: 0, parking: 0, parked: 0, unparking: 0, stuck: 0, gone: 0, unknown: 0 };
      for (const { driver } of vms.values()) counts[shownState(driver)] += 1;
      for (const [state, count] of Object.entries(counts)) this.set({ state }, count);
    },
  });
  new Gauge({
    ...{ registers, name: 'seamless_hypervisors_lost', help: 'VMs whose QEMU has gone.' },
    collect() {
      this.set([...vms.values()].filter(({ hypervisor }) => hypervisor.loss !== null).length);
    },
  });
  new Gauge({
    ...{ registers, name: 'seamless_host_reachable', labelNames: ['host'] },
    help: '1 while the host’s switch answers on the kept connection, else 0.',
    collect() {
      for (const { name, reachable } of hosts()) this.set({ host: name }, reachable ? 1 : 0);
    },
  });
  new Gauge({
    ...{ registers, name: 'seamless_buffer_packets' },
    help: 'Packets that wait in the packet buffers of VMs that are being parked or woken.',
    async collect() {
      const moving = [...vms.values()].filter(({ driver }) => driver.state.kind.endsWith('ing'));
      const depths = moving.map(({ bufferDepth }) => bufferDepth?.().catch(() => 0) ?? 0);
      this.set((await Promise.all(depths)).reduce((sum, depth) => sum + depth, 0));
    },
  });
  new Gauge({
    ...{ registers, name: 'seamless_memory_saved_bytes' },
    help: 'Memory that parked VMs have given back to their hosts.',
    collect() {
      this.set(memory.bytes());
    },
  });
  new Counter({
    ...{ registers, name: 'seamless_memory_saved_gibibyte_hours_total' },
    help: 'Memory saved over time, since this process began.',
    collect() {
      this.reset();
      this.inc(memory.gibibyteHours());
    },
  });
}

/** What has happened. */
function counters(registry: Registry): (record: JournalRecord) => void {
  const registers = [registry];
  const operations = new Histogram({
    ...{ registers, name: 'seamless_operation_seconds', buckets: SECONDS },
    ...{ help: 'How long parks and unparks took, by their outcome.', labelNames: ['operation', 'outcome'] },
  });
  const steps = new Histogram({
    ...{ registers, name: 'seamless_step_seconds', buckets: SECONDS },
    ...{ help: 'How long each step took that succeeded.', labelNames: ['operation', 'step'] },
  });
  const waits = new Histogram({
    ...{ registers, name: 'seamless_first_packet_wait_seconds', buckets: SECONDS },
    help: 'How long the first packet waited that was held for a VM that woke: the longest that any client waited.',
  });
  const failures = new Counter({
    ...{ registers, name: 'seamless_failures_total', labelNames: ['operation', 'code'] },
    help: 'Operations that were taken back or got stuck, by the error’s code.',
  });
  const wakes = new Counter({
    ...{ registers, name: 'seamless_wakes_total', labelNames: ['cause'] },
    help: 'What woke VMs, or wanted to.',
  });
  const verdicts = new Counter({
    ...{ registers, name: 'seamless_wake_verdicts_total', labelNames: ['verdict'] },
    help: 'Whether wakes were needed: used, false, unknown (docs/wakes.md).',
  });
  const falseWakes = new Counter({
    ...{ registers, name: 'seamless_false_wakes_total', labelNames: ['rule'] },
    help: 'Wakes that nothing needed, by the rule that caused them.',
  });

  return ({ saga, step, event, body }) => {
    const operation = saga?.slice(0, saga.indexOf('-')) ?? '';
    const seconds = Number(body.ms) / 1000;
    switch (event) {
      case 'succeeded': {
        steps.observe({ operation, step: step ?? '' }, seconds);
        const { firstHeldMs, heldPackets } = (body.output ?? {}) as Record<string, number | undefined>;
        if (firstHeldMs !== undefined && heldPackets) waits.observe(firstHeldMs / 1000);
        break;
      }
      case 'sagaEnded': {
        operations.observe({ operation, outcome: String(body.kind) }, seconds);
        const { code } = (body.error ?? {}) as Partial<ErrorBody>;
        if (code) failures.inc({ operation, code });
        break;
      }
      case 'wake':
        wakes.inc({ cause: String(body.cause) });
        break;
      case 'wakeJudged':
        verdicts.inc({ verdict: String(body.verdict) });
        if (body.verdict === 'false') falseWakes.inc({ rule: String(body.rule) });
        break;
    }
  };
}
