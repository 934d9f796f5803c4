/** Real victims under the real filter, with and without sanitizers; what is frozen is thawed here as CRIU would restore it. */
import { existsSync } from 'node:fs';
import { readdir, readFile, writeFile } from 'node:fs/promises';
import { connect } from 'node:net';
import { join } from 'node:path';
import { afterAll, beforeAll, describe, expect, onTestFinished, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import {
  compileVictim,
  filterVictim,
  isFrozen,
  REPOSITORY,
  removeVictim,
  startVictim,
  thaw,
  until,
} from './fixtures/victim.ts';

let program: string;

beforeAll(async () => {
  await exec([join(REPOSITORY, 'scripts/build-helpers'), '--sanitize'], { timeoutMs: 110_000 });
  program = await compileVictim();
});

afterAll(() => removeVictim(program));

const NOTHING_RETURNED = '0 0 0 0 0 0 0 0 signals 0';

describe.each(['build/syscall-filter', 'build/sanitized/syscall-filter'])('%s', (path) => {
  const binary = join(REPOSITORY, path);
  const start = () => startVictim(program, onTestFinished);

  test('a filtered process answers on its socket, and its blocked threads notice nothing', async () => {
    const victim = await start();
    const { filter } = await filterVictim(victim, binary);
    expect(filter.tasks).toBe(14); // 13 threads and the child
    expect(await isFrozen(victim.cgroup)).toBe(true);
    await filter.go();
    victim.say('ping');
    expect(await victim.hears()).toBe('pong');
    await filter.freeze();
    expect(await isFrozen(victim.cgroup)).toBe(true);
    await thaw(victim.cgroup);
    victim.say('waits');
    expect(await victim.hears()).toBe(NOTHING_RETURNED);
  });

  test('a forbidden call never takes effect under the filter, and does so exactly once afterwards', async () => {
    const victim = await start();
    const { filter, trigger } = await filterVictim(victim, binary);
    await filter.go();
    const file = join(victim.folder, 'made');
    victim.say(`open ${file}`);
    expect(await trigger).toMatchObject({
      pid: victim.pid,
      tid: victim.pid,
      program: 'victim',
      syscall: 'openat',
      rule: 'file.open',
      client: victim.local,
      detail: expect.stringContaining(
        `openat(AT_FDCWD, "${file}", O_WRONLY|O_CREAT|O_EXCL, 0600): opens a file`,
      ),
    });
    expect(await filter.exited).toMatchObject({ frozen: true, errors: [] });
    expect(existsSync(file)).toBe(false);
    await thaw(victim.cgroup);
    expect(await victim.hears()).toBe('open 1 errno 0');
    victim.say('waits');
    expect(await victim.hears()).toBe(NOTHING_RETURNED);
  });

  test('a cancelled call is not judged by a seccomp filter of the process’s own', async () => {
    const victim = await start();
    victim.say('seccomp');
    expect(await victim.hears()).toBe('seccomp 0');
    const { filter, trigger } = await filterVictim(victim, binary);
    await filter.go();
    victim.say(`open ${join(victim.folder, 'made')}`);
    expect(await trigger).toMatchObject({ syscall: 'openat', rule: 'file.open' });
    expect(await filter.exited).toMatchObject({ frozen: true, errors: [] });
    await thaw(victim.cgroup);
    expect(await victim.hears()).toBe('open 1 errno 0');
  });

  test('threads that hit forbidden calls at once all run them afterwards, none before', async () => {
    const victim = await start();
    const { filter, trigger } = await filterVictim(victim, binary);
    await filter.go();
    victim.say(`openall ${join(victim.folder, 'many')}`);
    expect((await trigger).rule).toBe('file.open');
    await filter.exited;
    expect(await readdir(victim.folder)).toEqual([]);
    await thaw(victim.cgroup);
    await until('four files', async () => (await readdir(victim.folder)).length === 4);
  });

  test('a fork is stopped before there is a child', async () => {
    const victim = await start();
    const { filter, trigger } = await filterVictim(victim, binary);
    await filter.go();
    victim.say('fork');
    expect(await trigger).toMatchObject({ syscall: 'clone', rule: 'process.create' });
    expect((await trigger).detail).toContain('SIGCHLD');
    expect(await filter.exited).toMatchObject({ frozen: true });
    await thaw(victim.cgroup);
    expect(await victim.hears()).toBe('child 7');
  });

  test('a pipe inside the set runs', async () => {
    const victim = await start();
    const { filter } = await filterVictim(victim, binary);
    await filter.go();
    victim.say('child');
    expect([await victim.hears(), await victim.hears()].sort()).toEqual(['child', 'sent 1']);
    await filter.freeze();
  });

  test('a descriptor that is inside is passed within the set; a file is not', async () => {
    for (const [what, rule] of [
      ['tcp', null],
      ['file', 'descriptor.address'],
    ] as const) {
      const victim = await start();
      const { filter, trigger } = await filterVictim(victim, binary);
      await filter.go();
      victim.say(`pass ${what}`);
      if (rule === null) {
        expect(await victim.hears()).toBe('passed 1');
        await filter.freeze();
      } else {
        expect(await trigger).toMatchObject({ syscall: 'sendmsg', rule });
        await filter.exited;
        await thaw(victim.cgroup);
        expect(await victim.hears()).toBe('passed 1');
      }
    }
  });

  test('a shared mapping of a file can’t become writable unseen', async () => {
    const victim = await start();
    const { filter, trigger } = await filterVictim(victim, binary);
    await filter.go();
    victim.say('protect read');
    expect(await victim.hears()).toBe('protect 0');
    victim.say('protect write');
    expect(await trigger).toMatchObject({ syscall: 'mprotect', rule: 'memory.file' });
    await filter.exited;
    await thaw(victim.cgroup);
    expect(await victim.hears()).toMatch(/^protect \d+$/);
  });

  test('a timer made in the sink runs out there', async () => {
    const victim = await start();
    const { filter } = await filterVictim(victim, binary);
    await filter.go();
    victim.say('timer 1');
    expect(await victim.hears()).toBe('timer 0');
    await until('its signal', async () => {
      victim.say('waits');
      return (await victim.hears()).endsWith('signals 1');
    });
    await filter.freeze();
  });

  test('what the profile allows runs, by its path and program alone; a freeze and a new filter change nothing of it', async () => {
    const victim = await start();
    const named = join(victim.folder, 'named.conf');
    await writeFile(named, 'content');
    const allowFile = join(victim.folder, 'allowed');
    const lines = ['stat', 'open'].map((effect) =>
      JSON.stringify({ program: 'victim', effect, path: join(victim.folder, '*.conf') }),
    );
    await writeFile(allowFile, `${lines.join('\n')}\n`);
    for (let round = 0; round < 2; round++) {
      const { filter } = await filterVictim(victim, binary, { allowFile });
      await filter.go();
      victim.say(`stat ${named}`);
      expect(await victim.hears()).toBe('stat 7');
      victim.say(`stat ${join(victim.folder, 'lacking.conf')}`);
      expect(await victim.hears()).toBe('stat -2');
      victim.say(`cat ${named}`);
      expect(await victim.hears()).toBe('cat 7 content');
      await filter.freeze();
    }
    for (const command of [`append ${named}`, `stat ${allowFile}`, `stat ${victim.folder}`]) {
      const { filter, trigger } = await filterVictim(victim, binary, { allowFile });
      await filter.go();
      victim.say(command);
      expect((await trigger).rule).toMatch(/^file\.(open|name)$/);
      await filter.exited;
      await thaw(victim.cgroup);
      await victim.hears();
    }
  });

  test('a 32-bit call and an x32 call are activity', async () => {
    for (const word of ['int80', 'x32']) {
      const victim = await start();
      const { filter, trigger } = await filterVictim(victim, binary);
      await filter.go();
      victim.say(word);
      expect((await trigger).rule).toBe('call.foreign');
      await filter.exited;
      await thaw(victim.cgroup);
      expect(await victim.hears()).toMatch(word === 'int80' ? 'int80 1' : 'x32 -1 errno 38');
    }
  });

  test('a new connection is taken, and is the trigger when the policy says so', async () => {
    const victim = await start();
    const { filter, trigger } = await filterVictim(victim, binary);
    await filter.go();
    const client = connect(victim.port, '127.0.0.1');
    onTestFinished(() => void client.destroy());
    expect(await trigger).toMatchObject({ rule: 'connection.new', fd: { kind: 'tcp' } });
    expect((await trigger).fd?.target).toContain(`127.0.0.1:${victim.port} < 127.0.0.1:`);
    expect(await filter.exited).toMatchObject({ frozen: true });
  });

  test('with the other policy a new connection is taken and nobody wakes', async () => {
    const victim = await start();
    const { filter } = await filterVictim(victim, binary, { accept: 'allow' });
    await filter.go();
    const client = connect(victim.port, '127.0.0.1');
    onTestFinished(() => void client.destroy());
    await until('accept to return', async () => {
      victim.say('waits');
      return (await victim.hears()) === '0 0 0 0 0 0 0 1 signals 0';
    });
    await filter.freeze();
    expect((await filter.exited).trigger).toBe(null);
  });

  test('a handled signal reaches its handler', async () => {
    const victim = await start();
    const { filter } = await filterVictim(victim, binary);
    await filter.go();
    process.kill(victim.pid, 'SIGUSR1');
    await until('the handler', async () => {
      victim.say('waits');
      return (await victim.hears()).endsWith('signals 1');
    });
    await filter.freeze();
  });

  test('a deadly signal does not kill in the sink: it stays pending and kills afterwards', async () => {
    const victim = await start();
    const { filter, trigger } = await filterVictim(victim, binary);
    await filter.go();
    process.kill(victim.pid, 'SIGTERM');
    expect(await trigger).toMatchObject({ rule: 'signal.fatal', detail: expect.stringContaining('SIGTERM') });
    expect(await filter.exited).toMatchObject({ frozen: true });
    expect(victim.process.signalCode).toBe(null);
    await thaw(victim.cgroup);
    await until('its end', () => victim.process.signalCode === 'SIGTERM');
  });

  test('a crash is put off until the process is back', async () => {
    const victim = await start();
    const { filter, trigger } = await filterVictim(victim, binary);
    await filter.go();
    victim.say('crash 8');
    expect(await trigger).toMatchObject({ rule: 'signal.fatal', detail: expect.stringContaining('SIGSEGV') });
    expect(await filter.exited).toMatchObject({ frozen: true });
    await thaw(victim.cgroup);
    await until('its end', () => victim.process.signalCode === 'SIGSEGV');
  });

  test('an exit waits for the VM', async () => {
    const victim = await start();
    const { filter, trigger } = await filterVictim(victim, binary);
    await filter.go();
    victim.say('exit');
    expect((await trigger).rule).toBe('process.exit');
    await filter.exited;
    expect(victim.process.exitCode).toBe(null);
    await thaw(victim.cgroup);
    await until('its end', () => victim.process.exitCode === 5);
  });

  test('a process that job control has stopped stays so, through seizing and freezing, until SIGCONT', async () => {
    const victim = await start();
    process.kill(victim.pid, 'SIGSTOP');
    await until('the stop', () => isStopped(victim.pid));
    for (let round = 0; round < 2; round++) {
      const { filter } = await filterVictim(victim, binary);
      await filter.go();
      expect(await isStopped(victim.pid)).toBe(true);
      if (round === 0) {
        victim.say('ping');
      } else {
        process.kill(victim.pid, 'SIGCONT');
        expect(await victim.hears()).toBe('pong');
        process.kill(victim.pid, 'SIGSTOP');
        await until('the stop', () => isStopped(victim.pid));
      }
      await filter.freeze();
    }
    await thaw(victim.cgroup);
    expect(await isStopped(victim.pid)).toBe(true);
    process.kill(victim.pid, 'SIGCONT');
    victim.say('waits');
    expect(await victim.hears()).toMatch(/signals 0$/);
  });

  test('a process killed from outside freezes the rest and is told', async () => {
    const victim = await start();
    const { filter, trigger } = await filterVictim(victim, binary);
    await filter.go();
    // Its child: nobody of the set notices that one's end, so that nothing else can be the trigger.
    process.kill(await childOf(victim.pid), 'SIGKILL');
    expect((await trigger).rule).toBe('process.killed');
    expect(await filter.exited).toMatchObject({ frozen: true });
  });

  test('after a freeze a second filter takes over, and blocked threads still notice nothing', async () => {
    const victim = await start();
    for (let round = 0; round < 3; round++) {
      const { filter } = await filterVictim(victim, binary);
      await filter.go();
      victim.say('ping');
      expect(await victim.hears()).toBe('pong');
      await filter.freeze();
    }
    await thaw(victim.cgroup);
    victim.say('waits');
    expect(await victim.hears()).toBe(NOTHING_RETURNED);
  });
});

async function childOf(pid: number): Promise<number> {
  return Number(await readFile(`/proc/${pid}/task/${pid}/children`, 'utf8'));
}

/** `T` is a stop, `t` a stop under a tracer; a listening tracee is in either. */
async function isStopped(pid: number): Promise<boolean> {
  return /^State:\t[Tt]/m.test(await readFile(`/proc/${pid}/status`, 'utf8'));
}
