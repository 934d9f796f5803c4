/** `seamless doctor`: looks at each prerequisite on each host, sink server and VM, all at once. Changes nothing. */
import type { SinkServerDescription } from '../../sink-agent/api.ts';
import type { VmDescription } from '../../vm-agent/api.ts';
import type { HostConfig, SinkConfig, VmConfig } from '../config.ts';
import type { HostLink } from '../network/host-link.ts';
import { asked, type Check, type Finding, findings } from './finding.ts';
import { examineHost } from './host-checks.ts';

export interface Patients {
  hosts: readonly HostConfig[];
  sinks: readonly SinkConfig[];
  vms: readonly VmConfig[];
  switchOff: 'swap' | 'ram' | 'disk' | 'nova';
  link(host: string): HostLink | undefined;
  /** What a sink server’s agent says. */
  describeSink(name: string): Promise<SinkServerDescription>;
  describeVm(name: string): Promise<VmDescription>;
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
    sinks.map(async ({ name }) =>
      servers.set(name, await patients.describeSink(name).catch((error: Error) => error)),
    ),
  );
  const groups = await Promise.all([
    ...hosts
      .filter(({ name }) => on(name))
      .map(async (host) => findings(`host ${host.name}`, await hostChecks(patients, host))),
    ...sinks
      .filter(({ host }) => on(host))
      .map(({ name }) => findings(`sink ${name}`, sinkChecks(servers.get(name)))),
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

function sinkChecks(server: SinkServerDescription | Error | undefined): Check[] {
  if (!server || server instanceof Error) {
    const found = server?.message ?? 'not asked';
    return [{ check: 'sink-agent', status: 'missing', found, mend: startAgent('sink-agent') }];
  }
  const { templateIds, memoryAvailableBytes, criuVersion } = server;
  const free = `answers, ${Math.round(memoryAvailableBytes / 2 ** 20)} MiB free`;
  const answers: Check = { check: 'sink-agent', status: 'ok', found: free };
  const mend = 'Put the templates of its VMs into its templatesDir (scripts/template build).';
  if (templateIds.length === 0)
    return [answers, { check: 'templates', status: 'missing', found: 'none', mend }];
  return [
    answers,
    { check: 'templates', status: 'ok', found: templateIds.join(' ') },
    criuCheck(criuVersion),
  ];
}

async function vmChecks(
  { describeVm, stateOf }: Patients,
  { name, template, sink }: VmConfig,
  server: SinkServerDescription | Error | undefined,
): Promise<Check[]> {
  const state = stateOf(name);
  if (state !== 'awake') return [{ check: 'vm-agent', status: 'ok', found: `not asked: the VM is ${state}` }];
  let described: VmDescription | undefined;
  const agent = await asked('vm-agent', startAgent('vm-agent'), async () => {
    described = await describeVm(name);
    return `answers as ${described.vm}`;
  });
  if (!described) return [agent];
  const { templateId, criuVersion } = described;
  const check = 'template';
  const mend = `Add the template ${template} to ${sink}, or build the VM anew from one that it has.`;
  if (!server || server instanceof Error) {
    const found = `${templateId}; ${sink} does not answer`;
    return [
      agent,
      criuCheck(criuVersion),
      { check, status: 'unknown', found, mend: startAgent('sink-agent') },
    ];
  }
  const status = server.templateIds.includes(templateId) ? 'ok' : 'missing';
  return [agent, criuCheck(criuVersion), { check, status, found: templateId, mend }];
}

function criuCheck(version: string): Check {
  const [major = 0, minor = 0] = version.split('.').map(Number);
  const enough = major > CRIU[0] || (major === CRIU[0] && minor >= CRIU[1]);
  const mend = `Expected CRIU ${CRIU.join('.')} or later: build the template anew.`;
  return { check: 'CRIU', status: enough ? 'ok' : 'missing', found: version || 'unknown', mend };
}
