/**
 * A VM without the hypervisor: the template's tree with its own systemd in namespaces of the host's kernel, for tests of what
 * is in the guest (applications, agent, CRIU) at native speed. Names, addresses, keys, files and sockets are those of the QEMU VM, so nobody else can tell.
 */
import { copyFile, mkdir, readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { setTimeout as sleep } from 'node:timers/promises';
import { templateDirectory, templatePaths } from '../template/store.ts';
import { makeCredentials, makeOwnFiles } from './own-files.ts';
import { type LabPlan, namespacePath, nativeCables, nativeCgroup, qmpSockets, type VmPlan } from './plan.ts';
import { type RunningProcess, startProcess } from './processes.ts';

/** Of a processor, for so long. Who does not come to rest is not waited for. */
const REST = 0.2;
const REST_MS = 250;
const REST_WITHIN_MS = 30_000;

const NAMESPACES = ['--pid', '--mount', '--net', '--uts', '--ipc', '--cgroup'];

/** Boots it. @returns the process that ends with it, and the one that serves its QMP sockets */
export async function startNativeVm(
  lab: LabPlan,
  vm: VmPlan,
): Promise<[RunningProcess, ...RunningProcess[]]> {
  const cgroup = nativeCgroup(lab, vm.name);
  const credentials = join(vm.directory, 'credentials');
  const console = join(vm.directory, 'console.log');
  const network = join(vm.directory, 'network');
  for (const folder of [credentials, vm.disk, vm.cgroup, cgroup]) await mkdir(folder, { recursive: true });
  const files = await makeOwnFiles(lab, vm);
  for (const [name, file] of Object.entries(await makeCredentials(lab, vm)))
    await copyFile(file, join(credentials, name));
  await writeFile(console, '');
  await writeFile(network, networkLines(vm));
  const hypervisor = namespacePath(lab, 'hv');
  const guest = startProcess({
    name: vm.name,
    // Whoever ends `unshare` ends PID 1, and with it the kernel ends the rest.
    argv: [
      'unshare',
      ...NAMESPACES,
      '--fork',
      '--kill-child',
      '--',
      join(import.meta.dirname, 'native-guest.sh'),
    ],
    netns: hypervisor,
    log: join(vm.directory, 'machine.log'),
    cgroups: [vm.cgroup, cgroup],
    env: {
      TEMPLATE: templatePaths(templateDirectory(lab.cache, vm.template)).root,
      DISK: vm.disk,
      FILES: files,
      NETWORK: network,
      HYPERVISOR: hypervisor,
      CREDENTIALS: credentials,
      CONSOLE: console,
    },
  });
  const power = startProcess({
    name: `${vm.name}-qmp`,
    argv: [process.execPath, join(import.meta.dirname, 'native-qmp.ts'), cgroup, ...qmpSockets(vm)],
    netns: hypervisor,
    log: join(vm.directory, 'qmp.log'),
  });
  return [guest, power];
}

/** Waits until what the boot has started is started: a service that computes for seconds counts as up to systemd long before. */
export async function waitForRest(lab: LabPlan, { name }: VmPlan, signal: AbortSignal): Promise<void> {
  const stat = join(nativeCgroup(lab, name), 'cpu.stat');
  const used = async () => Number(/^usage_usec (\d+)/.exec(await readFile(stat, 'utf8'))?.[1]) / 1000;
  const deadline = performance.now() + REST_WITHIN_MS;
  let [before, at] = [await used(), performance.now()];
  while (performance.now() < deadline) {
    await sleep(REST_MS, undefined, { signal });
    const [now, seen] = [await used(), performance.now()];
    if ((now - before) / (seen - at) < REST) return;
    [before, at] = [now, seen];
  }
}

function networkLines({ name, production, management }: VmPlan): string {
  const cables = nativeCables(name);
  const lines = [
    ['eth0', cables.production, production.mac, ...production.addresses],
    ['eth1', cables.management, management.mac, `${management.address}/24`],
  ];
  return `${lines.map((words) => words.join(' ')).join('\n')}\n`;
}
