/** A sink's limits, in folders that stand in for cgroups of either version. */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { cgroupAt } from '../../../sink-agent/sandbox/cgroup.ts';
import { limitCgroup, softenMemoryLimit } from '../../../sink-agent/sandbox/limits.ts';

async function folderOf(files: Record<string, string>) {
  const folder = await mkdtemp(join(tmpdir(), 'limits-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  for (const [name, text] of Object.entries(files)) await writeFile(join(folder, name), `${text}\n`);
  const read = async (name: string) => (await readFile(join(folder, name), 'utf8')).trim();
  return { folder, read };
}

test('a sink that has been restored is slowed down above its limit, and never ended', async () => {
  const { folder, read } = await folderOf({ 'cgroup.controllers': 'cpu memory pids' });
  await limitCgroup(cgroupAt(folder), { memoryMiB: 64, pids: 100 });
  expect(await read('memory.max')).toBe(String(64 * 2 ** 20));
  await softenMemoryLimit(cgroupAt(folder), []);
  expect(await read('memory.max')).toBe('max');
  expect(await read('memory.high')).toBe(String(64 * 2 ** 20));
  expect(await read('pids.max')).toBe('100');
  await softenMemoryLimit(cgroupAt(folder), []);
  expect(await read('memory.high')).toBe(String(64 * 2 ** 20));
});

test('so is one whose limits are those of cgroup v1', async () => {
  const sink = await folderOf({});
  const memory = await folderOf({
    'memory.limit_in_bytes': '1048576',
    'memory.memsw.limit_in_bytes': '2097152',
    'memory.soft_limit_in_bytes': '9223372036854771712',
  });
  const pids = await folderOf({ 'pids.max': '6' });
  await softenMemoryLimit(cgroupAt(sink.folder), [memory.folder, pids.folder]);
  expect(await memory.read('memory.limit_in_bytes')).toBe('-1');
  expect(await memory.read('memory.memsw.limit_in_bytes')).toBe('-1');
  expect(await memory.read('memory.soft_limit_in_bytes')).toBe('1048576');
  expect(await pids.read('pids.max')).toBe('6');
});

test('where nothing limits, nothing is written', async () => {
  const { folder } = await folderOf({ 'cgroup.controllers': 'cpu' });
  await limitCgroup(cgroupAt(folder), { memoryMiB: 64, pids: 100 });
  const v1 = await folderOf({ 'memory.limit_in_bytes': '9223372036854771712' });
  await softenMemoryLimit(cgroupAt(folder), [v1.folder]);
  await expect(readFile(join(folder, 'memory.max'))).rejects.toThrow('ENOENT');
  expect(await v1.read('memory.limit_in_bytes')).toBe('9223372036854771712');
});
