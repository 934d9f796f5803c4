/**
 * `packaging/deb.ts FOLDER`: a Debian package of each program, with the Node that runs it, so that they install on Debian 12 and later.
 *
 * The orchestrator's holds the agents too, since `seamless sink install` sends them. An agent's lies where that puts it, and is switched to
 * likewise (orchestrator/install/): its services outlive an upgrade, and sinks are seized again.
 */
import { chmod, cp, mkdir, mkdtemp, rm, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';
import { asSeamlessError, ERRORS, SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { layTree, type Program, packageVersion } from '../orchestrator/install/bundle.ts';

interface Package {
  summary: string;
  depends: readonly string[];
  recommends?: readonly string[];
  /** Where it lies on the host. */
  at: string;
  /** Links: path on the host → target. */
  links?: Record<string, string>;
  /** Shell, run when it has been unpacked. */
  postinst: readonly string[];
}

const AGENTS = '/usr/lib/seamless/agents';
const PACK_MS = 300_000;

const PACKAGES: Record<Program, Package> = {
  orchestrator: {
    summary: 'parks idle virtual machines in tiny sinks, and wakes them when they are needed',
    depends: ['libc6 (>= 2.36)', 'passwd'],
    recommends: ['openssh-client'],
    at: '/usr/lib/seamless/orchestrator',
    postinst: [
      'getent passwd seamless >/dev/null || useradd --system --user-group --home-dir /var/lib/seamless --shell /usr/sbin/nologin seamless',
    ],
  },
  'sink-agent': {
    summary: 'restores the waiting processes of parked virtual machines under a syscall filter',
    depends: ['libc6 (>= 2.36)', 'libnetfilter-queue1', 'iproute2', 'iptables', 'util-linux'],
    recommends: ['openvswitch-switch'],
    at: `${AGENTS}/sink-agent/debian`,
    links: { [`${AGENTS}/sink-agent/current`]: 'debian' },
    postinst: [],
  },
  'vm-agent': {
    summary: 'finds, checkpoints and restores the waiting processes of a virtual machine',
    depends: ['libc6 (>= 2.36)', 'criu (>= 4.2)', 'iproute2', 'util-linux'],
    at: `${AGENTS}/vm-agent/debian`,
    links: { [`${AGENTS}/vm-agent/current`]: 'debian' },
    postinst: [],
  },
};

/** @returns the path of the package, `seamless-PROGRAM_VERSION_amd64.deb` in `folder` */
export async function buildDeb(program: Program, folder: string): Promise<string> {
  const { at, links = {}, ...about } = PACKAGES[program];
  const work = await mkdtemp(join(tmpdir(), 'seamless-deb-'));
  try {
    const name = `seamless-${program}`;
    const unit = `${name}.service`;
    await layTree(program, work + at);
    for (const [path, target] of Object.entries(links)) await symlink(target, work + path);
    await mkdir(`${work}/usr/lib/systemd/system`, { recursive: true });
    await cp(join(import.meta.dirname, 'systemd', unit), `${work}/usr/lib/systemd/system/${unit}`);
    if (program === 'orchestrator') await layCommand(`${work}/usr/bin/seamless`, at);
    await layControl(join(work, 'DEBIAN'), name, about, unit);
    await mkdir(folder, { recursive: true });
    const file = join(folder, `${name}_${packageVersion()}_amd64.deb`);
    await exec(['dpkg-deb', '--root-owner-group', '-Zgzip', '-z1', '--build', work, file], {
      timeoutMs: PACK_MS,
    });
    return file;
  } finally {
    await rm(work, { recursive: true });
  }
}

async function layCommand(path: string, at: string): Promise<void> {
  await mkdir(dirname(path), { recursive: true });
  const command = `exec ${at}/node --disable-warning=ExperimentalWarning ${at}/app/orchestrator/cli/main.ts "$@"`;
  await writeFile(path, `#!/bin/sh\n${command}\n`);
  await chmod(path, 0o755);
}

async function layControl(
  folder: string,
  name: string,
  { summary, depends, recommends = [], postinst }: Omit<Package, 'at' | 'links'>,
  unit: string,
): Promise<void> {
  await mkdir(folder, { mode: 0o755 });
  const fields: [string, string][] = [
    ['Package', name],
    ['Version', packageVersion()],
    ['Architecture', 'amd64'],
    ['Maintainer', 'SEaMLESS <seamless@localhost>'],
    ['Section', 'admin'],
    ['Priority', 'optional'],
    ['Depends', depends.join(', ')],
    ...(recommends.length > 0 ? [['Recommends', recommends.join(', ')] as [string, string]] : []),
    ['Description', summary],
  ];
  await writeFile(
    join(folder, 'control'),
    `${fields.map(([key, value]) => `${key}: ${value}`).join('\n')}\n`,
  );
  const scripts = {
    // Not enabled: it has to be configured first. One that runs goes over to the new files.
    postinst: [
      ...postinst,
      'if [ -d /run/systemd/system ]; then',
      '  systemctl daemon-reload',
      `  systemctl try-restart ${unit}`,
      'fi',
    ],
    prerm: [`if [ "$1" = remove ] && [ -d /run/systemd/system ]; then systemctl disable --now ${unit}; fi`],
    postrm: ['if [ -d /run/systemd/system ]; then systemctl daemon-reload; fi'],
  };
  for (const [script, lines] of Object.entries(scripts)) {
    await writeFile(join(folder, script), `#!/bin/sh\nset -e\n${lines.join('\n')}\n`);
    await chmod(join(folder, script), 0o755);
  }
}

async function main(folder: string | undefined): Promise<void> {
  if (!folder) throw new SeamlessError('REQUEST_INVALID', 'Expected the folder that the packages go to');
  for (const program of Object.keys(PACKAGES) as Program[]) {
    process.stderr.write(`packing ${program}\n`);
    process.stdout.write(`${await buildDeb(program, folder)}\n`);
  }
}

if (import.meta.main) {
  main(process.argv[2]).catch((thrown) => {
    const error = asSeamlessError(thrown);
    process.stderr.write(`${error.code}: ${error.message}\n${ERRORS[error.code].next}\n`);
    process.exitCode = ERRORS[error.code].exit;
  });
}
