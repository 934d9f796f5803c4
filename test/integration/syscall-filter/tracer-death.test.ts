/** Whatever ends the filter, the processes are frozen: none runs on unfiltered. */
import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
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

const binary = join(REPOSITORY, 'build/syscall-filter');
let program: string;

beforeAll(async () => {
  await exec([join(REPOSITORY, 'scripts/build-helpers')], { timeoutMs: 110_000 });
  program = await compileVictim();
});

afterAll(() => removeVictim(program));

const start = () => startVictim(program, onTestFinished);

/** The filter as a bare process, running. */
async function bareFilter(cgroup: string) {
  const filter = spawn(binary, ['--cgroup', cgroup], { stdio: ['pipe', 'pipe', 'inherit'] });
  const events: string[] = [];
  createInterface({ input: filter.stdout }).on('line', (line) => events.push(JSON.parse(line).event));
  filter.stdin.write('{"cmd":"go"}\n');
  await until('it to run', () => events.includes('running'));
  const exited = once(filter, 'exit');
  const guardian = async () =>
    Number((await readFile(`/proc/${filter.pid}/task/${filter.pid}/children`, 'utf8')).trim());
  return { filter, events, exited, guardian };
}

test('a filter that is killed leaves its processes frozen, after a moment that is measured', async () => {
  const victim = await start();
  const { filter, exited } = await bareFilter(victim.cgroup);
  victim.say('spin');
  await until('some calls', () => calls(victim.pid));
  filter.kill('SIGKILL');
  await exited;
  await until('the freeze', () => isFrozen(victim.cgroup));
  victim.say('stop');
  await thaw(victim.cgroup);
  const unfiltered = Number((await victim.hears()).split(' ')[1]);
  console.log(`calls made between the filter's death and the freeze: ${unfiltered}`);
  // Less than a millisecond of calls at their full speed.
  expect(unfiltered).toBeLessThan(10_000);
});

test('a filter that loses its guardian freezes and says so', async () => {
  const victim = await start();
  const { events, exited, guardian } = await bareFilter(victim.cgroup);
  process.kill(await guardian(), 'SIGKILL');
  expect(await exited).toEqual([1, null]);
  expect(events).toEqual(['seized', 'running', 'error', 'frozen']);
  expect(await isFrozen(victim.cgroup)).toBe(true);
});

test.each(['SIGTERM', 'SIGINT', 'SIGHUP'] as const)('%s freezes, then lets go', async (signal) => {
  const victim = await start();
  const { filter, events, exited } = await bareFilter(victim.cgroup);
  filter.kill(signal);
  expect(await exited).toEqual([0, null]);
  expect(events).toEqual(['seized', 'running', 'frozen']);
  expect(await isFrozen(victim.cgroup)).toBe(true);
});

test('an agent that goes away, closing the pipe, leaves its processes frozen', async () => {
  const victim = await start();
  const { filter, exited } = await bareFilter(victim.cgroup);
  filter.stdin.end();
  expect(await exited).toEqual([0, null]);
  expect(await isFrozen(victim.cgroup)).toBe(true);
});

test('after the filter was killed another one takes over', async () => {
  const victim = await start();
  const { filter, exited } = await bareFilter(victim.cgroup);
  filter.kill('SIGKILL');
  await exited;
  const next = await filterVictim(victim, binary);
  await next.filter.go();
  victim.say('ping');
  expect(await victim.hears()).toBe('pong');
  await next.filter.freeze();
});

test('a cgroup that is not there, a process that is traced already: refused, with everything frozen', async () => {
  const victim = await start();
  await expect(filterVictim({ ...victim, cgroup: '/nowhere' }, binary)).rejects.toMatchObject({
    code: 'AGENT_REFUSED',
    message: expect.stringContaining('open the cgroup: No such file or directory'),
  });
  const { filter } = await filterVictim(victim, binary);
  await expect(filterVictim(victim, binary)).rejects.toMatchObject({ code: 'AGENT_REFUSED' });
  expect(await isFrozen(victim.cgroup)).toBe(true);
  await filter.freeze();
});

async function calls(pid: number): Promise<boolean> {
  const status = await readFile(`/proc/${pid}/status`, 'utf8');
  return Number(/^voluntary_ctxt_switches:\t(\d+)/m.exec(status)?.[1]) > 1000;
}
