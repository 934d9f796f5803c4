/**
 * The root tree that the cloud runs in: Debian trixie with its OpenStack packages, made by mmdebstrap and cached per package
 * list. Nothing in it is started by being installed (mmdebstrap sees to that), and it is entered by chroot, never booted.
 */
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, rename } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../../common/errors.ts';
import { exec } from '../../common/exec.ts';
import { removeTree } from '../../template/base-tree.ts';

const PACKAGES = [
  ...['python3-keystone', 'python3-nova', 'python3-placement', 'python3-aodh'],
  ...['rabbitmq-server', 'mariadb-server', 'iproute2', 'procps'],
];

/** nova-common would bring services and users of its own; of it only this is needed. */
const API_PASTE = `cd "$1/tmp" && chroot "$1" sh -c 'cd /tmp && apt-get download nova-common && dpkg-deb -x nova-common_*.deb nova-common' &&
mkdir -p "$1/etc/nova" && cp nova-common/usr/share/nova-common/api-paste.ini "$1/etc/nova/" && rm -rf nova-common nova-common_*.deb`;

const LEFT_OUT = ['doc/*', 'man/*', 'locale/*', 'info/*', 'lintian/*'];
const TIMEOUT_MS = 15 * 60_000;

/** @returns its path; read only: the cloud keeps its state elsewhere. Downloads 1.6 GB the first time. */
export async function ensureRootTree(cache: string, report: (line: string) => void): Promise<string> {
  const key = createHash('sha256')
    .update(JSON.stringify([PACKAGES, API_PASTE]))
    .digest('hex')
    .slice(0, 16);
  const tree = join(cache, 'openstack', key);
  if (existsSync(tree)) return tree;
  const partial = `${tree}.partial`;
  if (existsSync(partial)) await removeTree(partial);
  await mkdir(join(cache, 'openstack'), { recursive: true });
  report('fetching and unpacking OpenStack from Debian (1.6 GB, about 2 min)');
  await exec(
    [
      'mmdebstrap',
      '--variant=minbase',
      `--include=${PACKAGES.join(',')}`,
      '--aptopt=APT::Install-Recommends "false"',
      '--aptopt=Acquire::Retries "3"',
      ...LEFT_OUT.map((what) => `--dpkgopt=path-exclude=/usr/share/${what}`),
      '--setup-hook=mkdir -p "$1/usr/share/man/man1"',
      `--customize-hook=${API_PASTE}`,
      '--skip=cleanup/apt/lists',
      'trixie',
      partial,
      `deb ${await debianMirror()} trixie main`,
    ],
    { timeoutMs: TIMEOUT_MS },
  );
  await rename(partial, tree);
  return tree;
}

/** Where this machine has its own packages from. */
async function debianMirror(): Promise<string> {
  const { stdout } = await exec([
    'apt-get',
    'indextargets',
    '--format',
    '$(REPO_URI)',
    'Created-By: Packages',
  ]);
  const mirror = stdout.split('\n').find((uri) => /\/debian\/?$/.test(uri));
  if (mirror) return mirror.replace(/\/$/, '');
  throw new SeamlessError(
    'PREREQUISITE_MISSING',
    'Expected Debian package lists, got none; run `apt-get update`',
  );
}
