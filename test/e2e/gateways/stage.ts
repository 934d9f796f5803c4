/**
 * One lab with a VM of the application template for all applications; made anew when one leaves it in disorder.
 * Native unless SEAMLESS_APPS_ON=qemu; the template is SEAMLESS_APPS_TEMPLATE or `apps`, and holds the packages of every application that is run.
 */
import { fileURLToPath } from 'node:url';
import { exec } from '../../../common/exec.ts';
import { takeDown } from '../../../lab/down.ts';
import {
  hostTransport,
  type LabPlan,
  namespacePath,
  planLab,
  planVms,
  sinkRuntime,
} from '../../../lab/plan.ts';
import { sshConfigPath } from '../../../lab/ssh.ts';
import { bringUp } from '../../../lab/up.ts';
import { type ApiClient, apiClient, findSocket } from '../../../orchestrator/cli/client.ts';
import { buildTemplate } from '../../../template/build.ts';
import { cacheDirectory } from '../../../template/store.ts';
import type { ClientNetwork } from './application.ts';
import { Connection } from './connection.ts';
import { Guest } from './guest.ts';

export interface GatewayStage {
  vm: string;
  guest: Guest;
  net: ClientNetwork;
  api: ApiClient;
  down(): Promise<void>;
}

const SOURCE = fileURLToPath(new URL('../../..', import.meta.url));
const UP_MS = 300_000;
const RUN_MS = 20_000;
const VM = 'vm1';

export async function makeTemplate(
  packages: readonly string[],
  report: (line: string) => void,
): Promise<void> {
  await buildTemplate({ cache: cache(), name: templateName(), include: packages, source: SOURCE, report });
}

/** Brings the lab up, with none of `units` running. */
export async function makeStage(
  units: readonly string[],
  report: (line: string) => void,
): Promise<GatewayStage> {
  const lab = planLab(process.env['SEAMLESS_LAB'], cache());
  const vms = planVms(lab, [`${VM}:${templateName()}`], 2048);
  const native = process.env['SEAMLESS_APPS_ON'] !== 'qemu';
  const signal = AbortSignal.timeout(UP_MS);
  const state = await bringUp({
    lab,
    vms,
    source: SOURCE,
    services: true,
    sink: sinkRuntime(process.env),
    transport: hostTransport(process.env),
    native,
    report,
    signal,
  });
  const guest = new Guest(lab, state, VM);
  await guest.stop(units).catch(async (thrown) => {
    await takeDown(lab, report);
    throw thrown;
  });
  return {
    vm: VM,
    guest,
    net: clientNetwork(lab, vms[0]?.production.addresses[0].split('/')[0] ?? ''),
    api: apiClient(findSocket(undefined, process.env)),
    down: () => takeDown(lab, report),
  };
}

/** The client's place in `lab`, as the applications' clients see it; `address` is the VM's. */
export function clientNetwork(lab: LabPlan, address: string): ClientNetwork {
  const netns = namespacePath(lab, 'client');
  const start = (argv: readonly string[]) => new Connection(netns, argv);
  return {
    address,
    sshOptions: ['-F', sshConfigPath(lab)],
    run: async (argv, { input = '', timeoutMs = RUN_MS } = {}) =>
      (await exec(['nsenter', `--net=${netns}`, '--', ...argv], { input, timeoutMs })).stdout,
    start,
    tcp: (port) =>
      start(['socat', '-', `TCP:${address}:${port},keepalive,keepidle=1,keepintvl=1,keepcnt=15`]),
    udp: (port) => start(['socat', '-', `UDP:${address}:${port}`]),
  };
}

function cache(): string {
  return cacheDirectory(process.env);
}

function templateName(): string {
  return process.env['SEAMLESS_APPS_TEMPLATE'] ?? 'apps';
}
