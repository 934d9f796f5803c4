/** The orchestrator, assembled from its configuration. Starts what a crash interrupted before it takes requests. */
import { mkdirSync } from 'node:fs';
import { join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import { loadTls } from '../wire/tls.ts';
import { configInventory } from './api/config-inventory.ts';
import { policyRoutes } from './api/policy.ts';
import { startApi } from './api/server.ts';
import type { Config } from './config.ts';
import { agentPatient, examine, type Patients } from './doctor/examine.ts';
import { attend } from './idle/attend.ts';
import { explainRoutes } from './idle/route.ts';
import { manageVm } from './managed-vm.ts';
import { hostMemoryBooks } from './memory/host-memory.ts';
import { memoryRoutes } from './memory/route.ts';
import { openCloud } from './openstack/cloud.ts';
import { followers } from './openstack/follow.ts';
import { followNotifications } from './openstack/notifications.ts';
import { readSecret } from './openstack/openstack-config.ts';
import { ownRequests } from './openstack/own-requests.ts';
import { Fleet } from './registry/fleet.ts';
import { registryRoutes } from './registry/routes.ts';
import { type Journal, type JournalRecord, openJournal } from './saga/journal.ts';
import { RETENTION } from './saga/journal-pruning.ts';
import type { Move } from './vm/driver-deps.ts';
import { receiverRoutes, startReceivers } from './webhooks/receivers.ts';
import { webhookRoutes } from './webhooks/routes.ts';
import { vetoOf } from './webhooks/veto.ts';

export interface ServiceOptions {
  config: Config;
  log: Log;
  /** Called after each durable record of the journal. */
  onRecord?: (record: JournalRecord) => void;
  /** The process must end: only a new start, from the journal, is safe. */
  onFatal(error: unknown): void;
}

/** Milliseconds for which a running operation may go on when the service ends; the next start continues it. */
const FINISH_MS = 5000;
const PRUNE_EVERY_MS = 3600_000;

export async function startService(options: ServiceOptions): Promise<{ close(): Promise<void> }> {
  const { config, log, onRecord, onFatal } = options;
  const tls = loadTls(config.tls);
  mkdirSync(config.stateDir, { recursive: true, mode: 0o700 });
  const journal = openJournal(join(config.stateDir, 'journal.sqlite'), onRecord ? { onRecord } : {});
  const fleet = new Fleet({ config, tls, log });
  const bookOf = hostMemoryBooks((name) => fleet.links.get(name)?.transport);
  const cloud = config.openstack ? openCloud(config.openstack, journal) : null;
  const {
    attention,
    policy,
    close: endAttention,
  } = attend(config, journal, log, (host) => found(bookOf(host)).report());
  const vms = new Map(
    config.vms.map((vm) => {
      const sink = found(config.sinks.find(({ name }) => name === vm.sink));
      const vmHost = found(fleet.links.get(vm.host));
      const memory = found(bookOf(vm.host));
      const sinkHost = found(fleet.links.get(sink.host));
      const sinkAgent = found(fleet.agents.get(vm.sink));
      const onMove = (move: Move) => attention.moved(vm.name, move);
      const deps = {
        config,
        vm,
        sink,
        vmHost,
        memory,
        sinkHost,
        sinkAgent,
        tls,
        cloud,
        journal,
        log,
        policy: () => attention.policyOf(vm.name),
        onMove,
        onFatal,
      };
      return [vm.name, manageVm(deps)] as const;
    }),
  );

  for (const vm of vms.values()) {
    vm.start();
    const { name, host, labels = {}, metadata = {} } = vm.config;
    attention.add({ ...{ name, host, labels, metadata }, driver: vm.driver, source: vm.source });
  }
  attention.start();
  fleet.follow((sink) => vms.get(sink.vm)?.driver.sinkSays(sink));
  const patients: Patients = {
    ...{ hosts: fleet.hosts, sinks: fleet.sinks, vms: config.vms, switchOff: config.switchOff ?? 'swap' },
    link: (host) => fleet.links.get(host),
    certificates: [
      { what: 'certificate', file: config.tls.cert },
      { what: 'authority', file: config.tls.ca },
      ...(config.listen ? [{ what: 'certificate of the API', file: config.listen.tls.cert }] : []),
    ],
    sink: (name) => agentPatient(found(fleet.agents.get(name))),
    vm: (name) => agentPatient(found(vms.get(name)).agent),
    stateOf: (name) => found(vms.get(name)).driver.state.kind,
  };
  const { follow } = followers(vms.values(), cloud?.requests ?? ownRequests(journal), log);
  const receivers = startReceivers(config.webhooks?.receivers ?? [], journal, log);
  const endPruning = keepPruned(journal, config.journalDays, log);
  // Loaded when it is wanted: it is large.
  const traces = config.otlp ? (await import('./metrics/traces.ts')).startTraces(journal, config.otlp) : null;
  const api = await startApi({
    ...{ socket: config.socket, stateDir: config.stateDir, listen: config.listen, vms, journal, log },
    inventory: configInventory(fleet, fleet.links, fleet.agents),
    ready: () => [journalCheck(journal)],
    plugins: [
      (app) => explainRoutes(app, attention),
      (app) => policyRoutes(app, { policy, attention }, vms),
      (app) => memoryRoutes(app, bookOf),
      (app) => receiverRoutes(app, receivers),
      (app) =>
        webhookRoutes(app, {
          ...{ vms, journal, log, cloud, config: config.webhooks ?? {} },
          veto: (vm) => vetoOf(attention.explain(vm)),
        }),
      (app) =>
        registryRoutes(app, { fleet, stateDir: config.stateDir, examine: (host) => examine(patients, host) }),
    ],
  });

  const notifications = config.openstack?.notifications;
  const following =
    cloud && notifications
      ? followNotifications({
          ...{
            url: readSecret(notifications.urlFile),
            exchange: notifications.exchange,
            queue: notifications.queue,
            log,
          },
          onNotification: (notification) => follow(notification),
        })
      : null;

  return {
    async close() {
      await Promise.all([following?.close(), receivers.close()]);
      await api.close();
      endPruning();
      const attentionEnded = endAttention();
      const finished = Promise.all([...vms.values()].map(({ driver }) => driver.idle()));
      await Promise.race([finished, new Promise((resolve) => setTimeout(resolve, FINISH_MS).unref())]);
      await attentionEnded;
      for (const vm of vms.values()) vm.close();
      await fleet.close();
      await traces?.close();
      journal.close();
    },
  };
}

function journalCheck(journal: Journal): { name: string; problem: string | null } {
  try {
    journal.lastSeq();
    return { name: 'journal', problem: null };
  } catch (thrown) {
    return { name: 'journal', problem: (thrown as Error).message };
  }
}

/** Now and every hour. */
function keepPruned(journal: Journal, days = RETENTION.days, log: Log): () => void {
  const prune = () =>
    journal.prune({ ...RETENTION, days }).then(
      (records) => records > 0 && log.info('journal.pruned', { records }),
      (error) => log.error('journal.pruning', { error }),
    );
  void prune();
  const timer = setInterval(prune, PRUNE_EVERY_MS);
  return () => clearInterval(timer);
}

/** The configuration’s references have been checked. */
function found<T>(value: T | undefined): T {
  if (value !== undefined) return value;
  throw new SeamlessError('INTERNAL', 'Expected a checked configuration');
}
