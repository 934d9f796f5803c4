/** `seamless doctor`: looks at each prerequisite on each host, sink server and VM, all at once. Changes nothing. */
import type { SinkServerDescription } from '../../sink-agent/api.ts';
import type { VmDescription } from '../../vm-agent/api.ts';
import type { RpcClient } from '../../wire/rpc-client.ts';
import type { HostConfig, SinkConfig, VmConfig } from '../config.ts';
import type { HostLink } from '../network/host-link.ts';
import { type Certificate, certificateCheck, ownCertificates, renewAgent } from './certificates.ts';
import { type Check, type Finding, findings } from './finding.ts';
import { examineHost } from './host-checks.ts';

/** An agent, as far as it is examined. */
export interface AgentPatient<Description> {
  describe(): Promise<Description>;
  /** What its CRIU finds wrong with the kernel. */
  checkCriu(): Promise<string[]>;
  /** Of what it proves itself by; null before it has. */
  certificateEnds(): Date | null;
}

/** What both agents answer. */
type Examined<Description> = {
  describe: { params: Record<string, never>; result: Description };
  checkCriu: { params: Record<string, never>; result: { problems: string[] } };
};

export function agentPatient<Description>(
  agent: Pick<RpcClient<Examined<Description>>, 'call' | 'certificateEnds'>,
): AgentPatient<Description> {
  return {
    describe: () => agent.call('describe', {}, { timeoutMs: 10_000 }),
    checkCriu: async () => (await agent.call('checkCriu', {}, { timeoutMs: 60_000 })).problems,
    certificateEnds: () => agent.certificateEnds,
  };
}

export interface Patients {
  hosts: readonly HostConfig[];
  sinks: readonly SinkConfig[];
  vms: readonly VmConfig[];
  switchOff: 'swap' | 'ram' | 'disk' | 'nova';
  link(host: string): HostLink | undefined;
  /** The orchestrator’s own. */
  certificates: readonly Certificate[];
  sink(name: string): AgentPatient<SinkServerDescription>;
  vm(name: string): AgentPatient<VmDescription>;
  /** `awake`, `parked` …: nobody answers in a VM that is off. */
  stateOf(vm: string): string;
}

/** CRIU 4.2.1 is the first that restores TCP sockets on Linux 6.16 and later. */
const CRIU = [4, 2] as const;
const startAgent = (role: string) =>
  `Start it there (systemctl status seamless-${role}), and see that the management network leads to it.`;

/** @param only the name of one host; what is on it comes too */
export async function examine(patients: Patients, only?: string): Promise<Finding[]> {
  const { hosts, sinks, vms } = patients;
  const on = (host: string) => only === undefined || host === only;
  const servers = new Map<string, SinkServerDescription | Error>();
  await Promise.all(
    sinks.map(async ({ name }) => {
      servers.set(
        name,
        await patients
          .sink(name)
          .describe()
          .catch((error: Error) => error),
      );
    }),
  );
  const groups = await Promise.all([
    only === undefined ? findings('orchestrator', ownCertificates(patients.certificates)) : [],
    ...hosts
      .filter(({ name }) => on(name))
      .map(async (host) => findings(`host ${host.name}`, await hostChecks(patients, host))),
    ...sinks
      .filter(({ host }) => on(host))
      .map(async ({ name }) =>
        findings(`sink ${name}`, await sinkChecks(patients.sink(name), servers.get(name))),
      ),
    ...vms
      .filter(({ host }) => on(host))
      .map(async (vm) => findings(`vm ${vm.name}`, await vmChecks(patients, vm, servers.get(vm.sink)))),
  ]);
  return groups.flat();
}

async function hostChecks({ sinks, vms, switchOff, link }: Patients, host: HostConfig): Promise<Check[]> {
  const its = link(host.name);
  if (!its) return [];
  const hypervisor = vms.some((vm) => vm.host === host.name);
  const sinkServer = sinks.some((sink) => sink.host === host.name);
  return examineHost(host, its, { hypervisor, sinkServer, swaps: switchOff === 'swap' });
}

async function sinkChecks(
  agent: AgentPatient<SinkServerDescription>,
  server: SinkServerDescription | Error | undefined,
): Promise<Check[]> {
  if (!server || server instanceof Error) {
    const found = server?.message ?? 'not asked';
    return [{ check: 'sink-agent', status: 'missing', found, mend: mendOf(found, 'sink-agent') }];
  }
  const { templateIds, memoryAvailableBytes, criuVersion, packetFilter, limits } = server;
  const free = `answers, ${Math.round(memoryAvailableBytes / 2 ** 20)} MiB free`;
  const answers: Check = { check: 'sink-agent', status: 'ok', found: free };
  const mend = 'Put the templates of its VMs into its templatesDir (scripts/template build).';
  const certificate = agentCertificate(agent, 'sink');
  if (templateIds.length === 0)
    return [answers, certificate, { check: 'templates', status: 'missing', found: 'none', mend }];
  return [
    answers,
    certificate,
    { check: 'templates', status: 'ok', found: templateIds.join(' ') },
    criuCheck(criuVersion),
    await criuOnKernel(agent, 'sink'),
    ...(packetFilter ? [{ check: 'packet rules in sinks', status: 'ok', found: packetFilter } as const] : []),
    ...(limits ? [limitsCheck(limits)] : []),
  ];
}

/** No reason not to park: a sink is as small as what was moved there. */
function limitsCheck(limits: readonly string[]): Check {
  const found = limits.join(', ') || 'none: cgroup v2 has no memory controller there';
  return { check: 'limits of sinks', status: 'ok', found };
}

async function vmChecks(
  patients: Patients,
  { name, template, sink }: VmConfig,
  server: SinkServerDescription | Error | undefined,
): Promise<Check[]> {
  const state = patients.stateOf(name);
  if (state !== 'awake') return [{ check: 'vm-agent', status: 'ok', found: `not asked: the VM is ${state}` }];
  const agent = patients.vm(name);
  const described = await agent.describe().catch((error: Error) => error);
  if (described instanceof Error) {
    const found = described.message;
    return [{ check: 'vm-agent', status: 'missing', found, mend: mendOf(found, 'vm-agent') }];
  }
  const { templateId, criuVersion } = described;
  const check = 'template';
  const mend = `Add the template ${template} to ${sink}, or build the VM anew from one that it has.`;
  const itself: Check[] = [
    { check: 'vm-agent', status: 'ok', found: `answers as ${described.vm}` },
    agentCertificate(agent, 'vm'),
    criuCheck(criuVersion),
    await criuOnKernel(agent, 'vm'),
  ];
  if (!server || server instanceof Error) {
    const found = `${templateId}; ${sink} does not answer`;
    return [...itself, { check, status: 'unknown', found, mend: startAgent('sink-agent') }];
  }
  const status = server.templateIds.includes(templateId) ? 'ok' : 'missing';
  return [...itself, { check, status, found: templateId, mend }];
}

/** What there is to do when an agent can’t be asked, by why. */
function mendOf(found: string, role: 'sink-agent' | 'vm-agent'): string {
  return found.includes('certificate has expired')
    ? renewAgent(role === 'sink-agent' ? 'sink' : 'vm')
    : startAgent(role);
}

function agentCertificate(agent: AgentPatient<unknown>, kind: 'sink' | 'vm'): Check {
  return certificateCheck('certificate', agent.certificateEnds(), renewAgent(kind));
}

async function criuOnKernel(agent: AgentPatient<unknown>, kind: 'sink' | 'vm'): Promise<Check> {
  const check = 'criu check';
  try {
    const problems = await agent.checkCriu();
    if (problems.length === 0) return { check, status: 'ok', found: 'CRIU can work with the kernel there' };
    const mend =
      'Run a stock kernel of Debian there; in a container, see that the agent is root with all capabilities and may mount.';
    return { check, status: 'missing', found: problems.join('; '), mend };
  } catch (thrown) {
    const mend = `If the agent is older than the orchestrator, upgrade it: seamless ${kind} install (docs/install.md).`;
    return { check, status: 'unknown', found: (thrown as Error).message, mend };
  }
}

function criuCheck(version: string): Check {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const enough = major > CRIU[0] || (major === CRIU[0] && minor >= CRIU[1]);
  const mend = `Expected CRIU ${CRIU.join('.')} or later: build the template anew.`;
  return { check: 'CRIU', status: enough ? 'ok' : 'missing', found: version || 'unknown', mend };
}
