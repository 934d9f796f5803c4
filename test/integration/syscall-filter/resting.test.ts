/** A filtered process that waits, and a swap file of the test's own: its memory goes there, stays what it was, and comes back when it is needed. */
import { existsSync, mkdtempSync, readFileSync, rmSync, statfsSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, onTestFinished, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import {
  compileVictim,
  filterVictim,
  isFrozen,
  REPOSITORY,
  removeVictim,
  startVictim,
  until,
} from './fixtures/victim.ts';

const TMPFS = 0x01021994;
// Nothing can swap to a file on tmpfs.
const folder = mkdtempSync(
  join(statfsSync(tmpdir()).type === TMPFS ? '/var/tmp' : tmpdir(), 'seamless-rest-'),
);
const swap = join(folder, 'swap');
let program = '';

beforeAll(async () => {
  program = await compileVictim();
  await exec(['fallocate', '--length', '64MiB', swap]);
  await exec(['chmod', '600', swap]);
  await exec(['mkswap', '--quiet', swap]);
  await exec(['swapon', swap]);
}, 60_000);

afterAll(async () => {
  if (existsSync(swap)) await exec(['swapoff', swap]).catch(() => {});
  rmSync(folder, { recursive: true, force: true });
  if (program) await removeVictim(program);
}, 60_000);

test('what waits is in swap after a while, answers from there, and is frozen whole', async () => {
  const victim = await startVictim(program, onTestFinished);
  const kibibytes = (name: string) =>
    Number(
      new RegExp(`^${name}:\\s+(\\d+)`, 'm').exec(readFileSync(`/proc/${victim.pid}/status`, 'utf8'))?.[1],
    );
  const all = kibibytes('RssAnon') + kibibytes('VmSwap');
  const { filter } = await filterVictim(victim, join(REPOSITORY, 'build/syscall-filter'), {
    restAfterMs: 10,
  });
  await filter.go();
  await until('its memory to be in swap', () => kibibytes('VmSwap') > all / 2);
  victim.say('ping');
  expect(await victim.hears()).toBe('pong');
  await filter.freeze();
  expect(await isFrozen(victim.cgroup)).toBe(true);
}, 30_000);
