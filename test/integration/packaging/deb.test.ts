/**
 * The Debian packages, installed by dpkg on top of real systems that nothing of it stays on: the orchestrator's and the sink agent's on this
 * machine's, the vm-agent's on the template's, which has the CRIU that it depends on.
 */
import { mkdtemp, rm } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { buildDeb } from '../../../packaging/deb.ts';
import { cacheDirectory } from '../../../template/store.ts';

let folder: string;
beforeAll(async () => {
  folder = await mkdtemp(join(tmpdir(), 'seamless-debs-'));
});
afterAll(() => rm(folder, { recursive: true, force: true }));

/** Installs a package in a tree of its own above `base`, runs `script` there, gives what that prints. */
async function installed(file: string, base: string, script: string): Promise<string> {
  const steps = `set -e
    mount -t tmpfs -o mode=755 tmpfs "$1"; mkdir "$1/upper" "$1/work" "$1/root"
    mount -t overlay -o "lowerdir=$2,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
    cp "$3" "$1/root/package.deb"; mount -t proc proc "$1/root/proc"
    mkdir -p "$1/root/dev"; mount --bind /dev/null "$1/root/dev/null" 2>/dev/null || mount --rbind /dev "$1/root/dev"
    exec chroot "$1/root" sh -c 'dpkg -i /package.deb >/dev/null && { '"$4"'
    }'`;
  const mountPoint = await mkdtemp(join(folder, 'tree-'));
  const { stdout } = await exec(
    [
      ...(['unshare', '--mount', '--propagation', 'private', 'sh', '-c', steps, 'sh'] as const),
      ...[mountPoint, base, file, script],
    ],
    { timeoutMs: 60_000 },
  );
  return stdout;
}

test('the orchestrator’s has the command, the unit, its account, and both agents to install elsewhere', async () => {
  const file = await buildDeb('orchestrator', folder);
  const told = await installed(
    file,
    '/',
    `seamless completion bash | grep -c complete; getent passwd seamless; ls /usr/lib/systemd/system/seamless-orchestrator.service
    /usr/lib/seamless/orchestrator/node /usr/lib/seamless/orchestrator/app/orchestrator/main.ts --config /nowhere 2>&1 || true
    ls /usr/lib/seamless/orchestrator/app/build /usr/lib/seamless/orchestrator/app/sink-agent/main.ts`,
  );
  expect(told).toMatch(/seamless:x:\d+/);
  expect(told).toContain('CONFIG_INVALID');
  expect(told).toMatch(/sink-agent\/main\.ts[^]*packet-buffer[^]*syscall-filter/);
}, 120_000);

test.each([
  ['sink-agent', '/'],
  ['vm-agent', join(cacheDirectory(process.env), 'templates/default/root')],
] as const)(
  'the %s’s lies where its unit and its upgrades expect it, and runs',
  async (role, base) => {
    const file = await buildDeb(role, folder);
    const current = `/usr/lib/seamless/agents/${role}/current`;
    const told = await installed(
      file,
      base,
      `grep -c ${current}/node /usr/lib/systemd/system/seamless-${role}.service
    ${current}/node ${current}/app/${role}/main.ts --config /nowhere 2>&1 || true`,
    );
    expect(told).toMatch(/^[1-9]/);
    expect(told).toMatch(/CONFIG_INVALID|\/nowhere can’t be read/);
  },
  120_000,
);
