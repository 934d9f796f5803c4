import { lstat, mkdir, mkdtemp, readFile, rm, stat, symlink, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { beforeEach, expect, onTestFinished, test } from 'vitest';
import type { HeldFile } from '../../../criu/manifest.ts';
import { clearForBinding, placeFiles } from '../../../sink-agent/restore/dummy-files.ts';

let root: string;
const { uid, gid } = { uid: process.getuid?.() ?? 0, gid: process.getgid?.() ?? 0 };

beforeEach(async () => {
  root = await mkdtemp(join(tmpdir(), 'sls-tree-'));
  onTestFinished(() => rm(root, { recursive: true }));
});

const held = (path: string, more: Partial<HeldFile> = {}): HeldFile => ({
  ...{ path, type: 'file', mode: 0o640, uid, gid, size: 5000, mtime: 1_700_000_000, executable: false },
  ...more,
});

test('a file that the template lacks becomes a sparse one of the same size, mode and time, its folders made', async () => {
  await placeFiles(root, [held('/var/log/app/app.log', { size: 10_000_000 })]);
  const made = await stat(join(root, 'var/log/app/app.log'));
  expect(made).toMatchObject({ size: 10_000_000, blocks: 0, mtimeMs: 1_700_000_000_000 });
  expect(made.mode & 0o7777).toBe(0o640);
  expect((await stat(join(root, 'var/log'))).mode & 0o7777).toBe(0o755);
});

test('a file that the template has unchanged stays as it is, another one is replaced', async () => {
  await writeFile(join(root, 'same'), 'content');
  await writeFile(join(root, 'other'), 'content');
  const mtime = Math.floor((await stat(join(root, 'same'))).mtimeMs / 1000);
  await placeFiles(root, [held('/same', { size: 7, mtime }), held('/other', { size: 3, mtime })]);
  expect(await readFile(join(root, 'same'), 'utf8')).toBe('content');
  expect(await readFile(join(root, 'other'), 'utf8')).toBe('\0\0\0');
});

test('executables that differ from the template are all named, and nothing is made', async () => {
  await writeFile(join(root, 'sshd'), 'old');
  const files = [held('/log'), held('/sshd', { executable: true }), held('/libc.so', { executable: true })];
  await expect(placeFiles(root, files)).rejects.toMatchObject({
    code: 'TEMPLATE_MISMATCH',
    details: { files: ['/sshd', '/libc.so'] },
  });
  await expect(lstat(join(root, 'log'))).rejects.toThrow('ENOENT');
});

test('directories and FIFOs are made as what they are; a socket gets only its folder', async () => {
  await placeFiles(root, [
    held('/srv/work', { type: 'directory', mode: 0o700 }),
    held('/run/pipe', { type: 'fifo', mode: 0o600 }),
    held('/run/systemd/journal/dev-log', { type: 'socket' }),
  ]);
  expect((await lstat(join(root, 'srv/work'))).isDirectory()).toBe(true);
  expect((await lstat(join(root, 'run/pipe'))).isFIFO()).toBe(true);
  expect((await lstat(join(root, 'run/systemd/journal'))).isDirectory()).toBe(true);
  await expect(lstat(join(root, 'run/systemd/journal/dev-log'))).rejects.toThrow('ENOENT');
});

test('a symbolic link in the tree is never followed to the outside', async () => {
  const outside = await mkdtemp(join(tmpdir(), 'sls-outside-'));
  onTestFinished(() => rm(outside, { recursive: true }));
  await symlink(outside, join(root, 'var'));
  await expect(placeFiles(root, [held('/var/log')])).rejects.toThrow('symbolic link');
  await writeFile(join(outside, 'victim'), 'mine');
  await symlink(join(outside, 'victim'), join(root, 'log'));
  await placeFiles(root, [held('/log')]);
  expect(await readFile(join(outside, 'victim'), 'utf8')).toBe('mine');
  expect((await lstat(join(root, 'log'))).isFile()).toBe(true);
});

test.each(['/../etc/passwd', 'etc/passwd', '/a//b', '/a/./b'])('the path %s is refused', async (path) => {
  await expect(placeFiles(root, [held(path)])).rejects.toMatchObject({ code: 'REQUEST_INVALID' });
});

test('the agent’s own folder can’t be replaced', async () => {
  await expect(placeFiles(root, [held('/run/seamless-sink/cgroup')])).rejects.toMatchObject({
    code: 'RESTORE_FAILED',
  });
});

test('of devices, those that a sink has too are taken', async () => {
  await mkdir(join(root, 'dev'));
  await placeFiles(root, [held('/dev/pts/3', { type: 'char' }), held('/proc/7/status')]);
  await expect(placeFiles(root, [held('/dev/kvm', { type: 'char' })])).rejects.toThrow('/dev/kvm');
});

test('a socket that the VM’s processes have bound finds its folder, and nothing in its place', async () => {
  await mkdir(join(root, 'run/old'), { recursive: true });
  await writeFile(join(root, 'run/old/socket'), '');
  await clearForBinding(root, ['/run/old/socket', '/run/new/socket']);
  await expect(lstat(join(root, 'run/old/socket'))).rejects.toThrow('ENOENT');
  expect((await lstat(join(root, 'run/new'))).isDirectory()).toBe(true);
});
