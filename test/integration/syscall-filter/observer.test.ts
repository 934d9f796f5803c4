/** Processes watched where they live: what would wake the VM is told, everything runs, nothing is left behind. */
import { existsSync } from 'node:fs';
import { readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { createObserver } from '../../../vm-agent/observe.ts';
import { startObserver } from './fixtures/observer.ts';
import { compileVictim, REPOSITORY, startVictim, until, type Victim } from './fixtures/victim.ts';

let program: string;

beforeAll(async () => {
  await exec([join(REPOSITORY, 'scripts/build-helpers'), '--sanitize'], { timeoutMs: 110_000 });
  program = await compileVictim();
});

afterAll(() => rm(dirname(program), { recursive: true, force: true }));

const NOTHING_RETURNED = '0 0 0 0 0 0 0 0 signals 0';

async function untraced({ pid }: Victim): Promise<boolean> {
  return /^TracerPid:\t0$/m.test(await readFile(`/proc/${pid}/status`, 'utf8'));
}

async function childOf(pid: number): Promise<number> {
  return Number(await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8'));
}

describe.each(['build/syscall-observer', 'build/sanitized/syscall-observer'])('%s', (path) => {
  const binary = join(REPOSITORY, path);

  test('calls run and are told, with count, path and what a profile would need; blocked threads notice nothing', async () => {
    const victim = await startVictim(program, onTestFinished);
    const observer = await startObserver(binary, [victim.pid, await childOf(victim.pid)]);
    expect(observer.seen[0]).toMatchObject({ event: 'observing', tasks: 14 });
    const file = join(victim.folder, 'made');
    victim.say(`open ${file}`);
    expect(await victim.hears()).toBe('open 1 errno 0');
    expect(existsSync(file)).toBe(true);
    for (let round = 0; round < 3; round++) {
      victim.say(`stat ${file}`);
      expect(await victim.hears()).toBe('stat 0');
    }
    victim.say(`cat ${file}`);
    expect(await victim.hears()).toBe('cat 0 ');
    victim.say('fork');
    expect(await victim.hears()).toBe('child 7');
    const seen = await observer.end();
    const of = (syscall: string) => seen.find((each) => each.syscall === syscall);
    expect(of('newfstatat')).toMatchObject({
      program: 'victim',
      rule: 'file.name',
      effect: 'stat',
      path: file,
      count: 3,
    });
    expect(seen.filter(({ syscall }) => syscall === 'openat')).toEqual([
      expect.not.objectContaining({ effect: expect.anything() }), // makes the file
      expect.objectContaining({ effect: 'open', path: file, rule: 'file.open' }),
    ]);
    expect(of('read')).toMatchObject({ effect: 'read', path: file });
    expect(of('clone')).toMatchObject({ rule: 'process.create', count: 1 });
    // What the child did is no matter: in a sink there would have been none.
    expect(of('exit_group')).toBeUndefined();
    expect(observer.seen.at(-1)).toMatchObject({ event: 'done' });
    expect(await untraced(victim)).toBe(true);
    victim.say('waits');
    expect(await victim.hears()).toBe(NOTHING_RETURNED);
  });

  test('signals are delivered, and a stopped process stays stopped', async () => {
    const victim = await startVictim(program, onTestFinished);
    const observer = await startObserver(binary, [victim.pid]);
    process.kill(victim.pid, 'SIGUSR1');
    await until('the handler', async () => {
      victim.say('waits');
      return (await victim.hears()).endsWith('signals 1');
    });
    process.kill(victim.pid, 'SIGSTOP');
    await until('the stop', () => isStopped(victim.pid));
    await observer.end();
    expect(await isStopped(victim.pid)).toBe(true);
    process.kill(victim.pid, 'SIGCONT');
    victim.say('ping');
    expect(await victim.hears()).toBe('pong');
  });

  test('an observer that is killed lets the processes go on', async () => {
    const victim = await startVictim(program, onTestFinished);
    const observer = await startObserver(binary, [victim.pid]);
    victim.say('ping');
    expect(await victim.hears()).toBe('pong');
    observer.child.kill('SIGKILL');
    await observer.exited;
    await until('it to be let go', () => untraced(victim));
    victim.say('child');
    expect([await victim.hears(), await victim.hears()].sort()).toEqual(['child', 'sent 1']);
  });

  test('a process that ends while it is watched ends the watch', async () => {
    const victim = await startVictim(program, onTestFinished);
    const observer = await startObserver(binary, [victim.pid]);
    victim.say('exit');
    await observer.exited;
    expect(victim.process.exitCode).toBe(5);
    expect(observer.seen.some((line) => line.event === 'activity' && line.syscall === 'exit_group')).toBe(
      true,
    );
  });

  test('the agent’s side: a report, less what the profile has already; stopped early on demand; one at a time', async () => {
    const victim = await startVictim(program, onTestFinished);
    const file = join(victim.folder, 'x.conf');
    await writeFile(file, 'content');
    const observer = createObserver(binary);
    const { signal } = new AbortController();
    const allow = [{ program: 'victim', effect: 'stat' as const, path: join(victim.folder, '*.conf') }];
    const report = observer.observe({ pids: [victim.pid], seconds: 60, allow, signal });
    await until('it to watch', async () => !(await untraced(victim)));
    await expect(observer.observe({ pids: [1], seconds: 1, allow, signal })).rejects.toMatchObject({
      code: 'AGENT_REFUSED',
    });
    for (const command of ['stat', 'cat']) {
      victim.say(`${command} ${file}`);
      await victim.hears();
    }
    await observer.stop();
    expect(await untraced(victim)).toBe(true);
    const { observations, processes, threads, calls, ms } = await report;
    expect({ processes, threads }).toEqual({ processes: 1, threads: 13 });
    expect(calls).toBeGreaterThan(5);
    expect(ms).toBeLessThan(60_000);
    expect(observations.map(({ syscall }) => syscall).sort()).toEqual(['close', 'openat', 'read']);
    await observer.stop(); // nothing to stop
    await expect(observer.observe({ pids: [1], seconds: 0, allow, signal })).rejects.toMatchObject({
      code: 'REQUEST_INVALID',
    });
    await expect(observer.observe({ pids: [2 ** 22 + 1], seconds: 1, allow, signal })).rejects.toMatchObject({
      code: 'AGENT_REFUSED',
      message: expect.stringContaining('No such process'),
    });
  });
});

async function isStopped(pid: number): Promise<boolean> {
  return /^State:\t[Tt]/m.test(await readFile(`/proc/${pid}/status`, 'utf8'));
}
