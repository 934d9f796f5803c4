/**
 * The Debian part of a template, from Debian's packages by mmdebstrap, and its cache: one tree per package list.
 *
 * All of it is trixie but CRIU: trixie's 4.1 fails on every TCP socket of kernels ≥ 6.16, so criu and its libraries come
 * from forky, pinned so that nothing else does. forky's Release file may be past its date, hence no Check-Valid-Until.
 */
import { createHash } from 'node:crypto';
import { mkdir, readdir, rename, rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';

export const PACKAGES: readonly string[] = [
  'catatonit', // PID 1 of a sink: reaps, nothing else
  'criu',
  'dbus',
  'iproute2',
  'kmod',
  'libpam-systemd',
  'linux-image-cloud-amd64',
  'openssh-server',
  'procps',
  'socat',
  'systemd',
  'systemd-sysv',
  'tiny-initramfs', // what the kernel package depends on; of the choices, the one that brings no udev
  'util-linux',
];

const FROM_FORKY = 'criu libcompel1 libnet9 libnl-3-200';
const PREFERENCES = `Package: *
Pin: release n=forky
Pin-Priority: 100

Package: ${FROM_FORKY}
Pin: release n=forky
Pin-Priority: 990
`;

/** Documentation and translations: nothing runs them, and they are a fifth of the tree. */
const LEFT_OUT = ['doc/*', 'man/*', 'locale/*', 'info/*', 'lintian/*'].map(
  (what) => `--dpkgopt=path-exclude=/usr/share/${what}`,
);

/** Any fixed date: programs that stamp files (shadow's "last changed", for one) use it instead of today's. */
const SOURCE_DATE_EPOCH = '1735689600';
const PACKAGE_NAME = /^[a-z0-9][a-z0-9+.-]+$/;
const TIMEOUT_MS = 15 * 60_000;
/** Raised when this file changes what a tree holds. */
const RECIPE = 1;

/**
 * A tree with the packages above and `include`, taken from the cache unless `fresh` asks for Debian's present packages.
 * @returns its path; read only: callers copy it.
 */
export async function ensureBaseTree(
  cache: string,
  include: readonly string[],
  report: (line: string) => void,
  fresh = false,
): Promise<string> {
  const wrong = include.filter((name) => !PACKAGE_NAME.test(name));
  if (wrong.length > 0)
    throw new SeamlessError('REQUEST_INVALID', `expected Debian package names, got ${wrong.join(', ')}`);
  const packages = [...new Set([...PACKAGES, ...include])].sort();
  const folder = join(cache, 'base');
  const key = baseKey(include);
  await mkdir(folder, { recursive: true });
  const kept = await readdir(folder);
  if (kept.includes(key) && !fresh) return join(folder, key);
  for (const name of kept.filter((entry) => entry.endsWith('.partial'))) await removeTree(join(folder, name));
  report(`fetching and unpacking ${packages.length} Debian packages and what they need (about 1 min)`);
  const mirror = await findMirror();
  const partial = join(folder, `${key}.partial`);
  try {
    await mmdebstrap(mirror, partial, packages, join(folder, `${key}.preferences`));
  } catch (cause) {
    await removeTree(partial);
    throw unreachable(mirror, cause) ?? cause;
  }
  if (fresh) await removeTree(join(folder, key));
  await rename(partial, join(folder, key));
  return join(folder, key);
}

/** Where this machine has its own Debian packages from: that can be reached, or it would not be set. */
async function findMirror(): Promise<string> {
  // apt tells the addresses of lists that it has; a machine may have none yet.
  const mirror = (await mirrorOfLists()) ?? (await exec(['apt-get', 'update']).then(mirrorOfLists));
  if (mirror) return mirror.replace(/\/$/, '');
  throw new SeamlessError(
    'PREREQUISITE_MISSING',
    'expected a source of Debian packages (…/debian) in /etc/apt/sources.list or sources.list.d, got none; add one',
  );
}

async function mirrorOfLists(): Promise<string | undefined> {
  const { stdout } = await exec([
    'apt-get',
    'indextargets',
    '--format',
    '$(REPO_URI)',
    'Created-By: Packages',
  ]);
  return stdout.split('\n').find((uri) => /\/debian\/?$/.test(uri));
}

/** Names the tree with these packages beyond the usual ones: what is asked for, not what Debian has of it today. */
export function baseKey(include: readonly string[]): string {
  const packages = [...new Set([...PACKAGES, ...include])].sort();
  return createHash('sha256')
    .update(JSON.stringify([RECIPE, packages, PREFERENCES]))
    .digest('hex')
    .slice(0, 16);
}

async function mmdebstrap(
  mirror: string,
  target: string,
  packages: readonly string[],
  preferences: string,
): Promise<void> {
  await writeFile(preferences, PREFERENCES);
  try {
    await exec(
      [
        'mmdebstrap',
        '--variant=minbase',
        `--include=${packages.join(',')}`,
        '--aptopt=Acquire::Check-Valid-Until "false"',
        '--aptopt=APT::Install-Recommends "false"',
        '--aptopt=Acquire::Retries "3"',
        ...LEFT_OUT,
        // Left out with the manuals, but the Java packages put links there.
        '--setup-hook=mkdir -p "$1/usr/share/man/man1"',
        '--setup-hook=mkdir -p "$1/etc/apt/preferences.d" && cp "$PREFERENCES" "$1/etc/apt/preferences.d/seamless.pref"',
        'trixie',
        target,
        `deb ${mirror} trixie main`,
        `deb ${mirror} forky main`,
      ],
      { timeoutMs: TIMEOUT_MS, env: { SOURCE_DATE_EPOCH, INITRD: 'No', PREFERENCES: preferences } },
    );
  } finally {
    await rm(preferences, { force: true });
  }
}

/** Deletes a tree, but nothing that is still mounted in it: a mount left over may be the host's. */
export async function removeTree(tree: string): Promise<void> {
  const { stdout } = await exec(['findmnt', '--noheadings', '--raw', '--output', 'TARGET']);
  const mounts = stdout.split('\n').filter((target) => target.startsWith(`${tree}/`));
  for (const target of mounts.reverse()) await exec(['umount', '--lazy', target]);
  await exec(['rm', '--recursive', '--force', '--one-file-system', '--preserve-root=all', tree]);
}

function unreachable(mirror: string, cause: unknown): SeamlessError | null {
  const output = cause instanceof SeamlessError ? String(cause.details.output ?? '') : '';
  if (!/Could not resolve|Could not connect|Connection (refused|timed out)|Failed to fetch/.test(output))
    return null;
  return new SeamlessError(
    'PREREQUISITE_MISSING',
    `Debian's packages at ${mirror} can't be reached; check the network and the apt proxy, then run this again`,
    { cause },
  );
}
