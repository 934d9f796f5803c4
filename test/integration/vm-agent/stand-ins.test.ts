import { spawn } from 'node:child_process';
import { mkdirSync, readFileSync, readlinkSync, rmdirSync } from 'node:fs';
import { join } from 'node:path';
import { afterEach, beforeAll, beforeEach, describe, expect, it, onTestFinished } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { isAlive, programOf } from '../../../vm-agent/processes.ts';

const ROOT = join(import.meta.dirname, '../../..');
const CGROUPS = ['/sys/fs/cgroup/unified', '/sys/fs/cgroup'].find((path) => {
  try {
    return readFileSync(`${path}/cgroup.procs`) && readFileSync(`${path}/cgroup.controllers`);
  } catch {
    return false;
  }
});

beforeAll(async () => {
  await exec([join(ROOT, 'scripts/build-helpers'), '--sanitize'], { timeoutMs: 110_000 });
}, 120_000);

describe.runIf(CGROUPS)('stand-ins', () => {
  const folders = ['a', 'b'].map((name) => `${CGROUPS}/vm-agent-test-${process.pid}-${name}`);
  const started: number[] = [];

  beforeEach(() => {
    for (const folder of folders) mkdirSync(folder);
  });

  afterEach(async () => {
    for (const pid of started.splice(0)) if (programOf(pid) === 'stand-ins') process.kill(pid, 'SIGKILL');
    for (const folder of folders) {
      await expect.poll(() => readFileSync(`${folder}/cgroup.procs`, 'utf8'), { timeout: 5000 }).toBe('');
      rmdirSync(folder);
    }
  });

  it('leave one sleeper in each cgroup, alive after the program has ended, with nothing open', async () => {
    const { stdout } = await exec([join(ROOT, 'build/stand-ins'), ...folders]);
    const pids = stdout.split('\n').map(Number);
    started.push(...pids);
    expect(pids).toHaveLength(2);
    for (const [index, pid] of pids.entries()) {
      expect(isAlive(pid)).toBe(true);
      expect(readFileSync(`${folders[index]}/cgroup.procs`, 'utf8')).toBe(`${pid}\n`);
      expect((await exec(['ls', `/proc/${pid}/fd`])).stdout).toBe('');
    }
  });

  it('are in the namespaces that were named, and in a cgroup that is entered from outside of these', async () => {
    // In these mounts cgroups are read-only, as ProtectControlGroups= has it.
    const script = `mount -o remount,bind,ro ${CGROUPS} && exec sleep 60`;
    const other = spawn('unshare', ['--mount', '--uts', 'sh', '-c', script], { stdio: 'ignore' });
    onTestFinished(() => void other.kill('SIGKILL'));
    await expect.poll(() => programOf(other.pid ?? -1)).toBe('sleep');
    const kinds = ['mnt', 'uts'];
    const namespaces = kinds.flatMap((kind) => ['--ns', `/proc/${other.pid}/ns/${kind}`]);
    const { stdout } = await exec([join(ROOT, 'build/sanitized/stand-ins'), ...namespaces, folders[0] ?? '']);
    started.push(Number(stdout));
    for (const kind of kinds)
      expect(readlinkSync(`/proc/${stdout}/ns/${kind}`)).toBe(readlinkSync(`/proc/${other.pid}/ns/${kind}`));
    expect(readFileSync(`${folders[0]}/cgroup.procs`, 'utf8')).toBe(`${stdout}\n`);
  });

  it('say which they started when a later one can’t be', async () => {
    const failure = await exec([
      join(ROOT, 'build/sanitized/stand-ins'),
      folders[0] ?? '',
      '/nonexistent',
    ]).catch((error: { message: string; details: { output: string } }) => error);
    const output = 'details' in failure ? failure.details.output : '';
    started.push(
      ...output
        .split('\n')
        .filter((line) => /^\d+$/.test(line))
        .map(Number),
    );
    expect(started).toHaveLength(2);
    expect(output).toContain('/nonexistent: No such file or directory');
  });
});
