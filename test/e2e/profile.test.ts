/**
 * A profile from learning to use: an idle daemon that polls its configuration keeps waking its VM; watched in the VM for a while, what it
 * does is proposed with reasons; with that as the template's profile it stays parked and goes on polling. On a native VM: the
 * hypervisor is not the point.
 */
import { mkdtemp, readFile, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exec } from '../../common/exec.ts';
import { takeDown } from '../../lab/down.ts';
import { namespacePath } from '../../lab/plan.ts';
import { awaitState, configure, kill, seamless, show, start } from './fixtures/admin.ts';
import { planOwnLab, SOURCE, startVm1, TEMPLATE } from './fixtures/native-lab.ts';
import { say } from './fixtures/shared-stage.ts';
import { Connection } from './gateways/connection.ts';
import { Guest } from './gateways/guest.ts';

const lab = planOwnLab('profile');
const PORT = 7000;
const LEARN_SECONDS = 6;
const UNIT = `[Service]\nExecStart=/usr/bin/perl /srv/poller.pl ${PORT}\n`;
let profiles: string;
let guest: Guest;
let client: Connection;

beforeAll(async () => {
  profiles = await mkdtemp(join(tmpdir(), 'slf-profiles-'));
  guest = new Guest(lab, await startVm1(lab, 2048), 'vm1');
  await guest.write('/srv/poller.pl', await readFile(join(SOURCE, 'test/e2e/fixtures/poller.pl'), 'utf8'));
  await guest.write('/etc/poller.conf', 'first\n');
  await guest.write('/etc/systemd/system/poller.service', UNIT);
  await guest.start(['poller.service'], [`tcp/${PORT}`]);
  await configure({ profiles });
  await kill('orchestrator');
  await start('orchestrator');
  client = new Connection(namespacePath(lab, 'client'), ['socat', '-', `TCP:10.77.0.11:${PORT}`]);
  expect(await looked()).toBeGreaterThanOrEqual(0);
}, 400_000);

afterAll(async () => {
  await client?.close();
  await takeDown(lab, say);
  await rm(profiles, { recursive: true });
}, 120_000);

test('without a profile its polling wakes the VM at once', async () => {
  expect(await seamless('park', 'vm1')).toMatchObject({ exitCode: 0 });
  await awaitState('vm1', 'awake', 20_000);
  expect((await show('vm1')).lastWake).toMatchObject({ rule: 'file.name' });
}, 60_000);

test('what was learned, put into the profile, keeps it parked and polling; what it reads is the VM’s', async () => {
  const learn = ['profile', 'learn', 'vm1', '--seconds', String(LEARN_SECONDS)] as const;
  const { stdout } = await exec([join(SOURCE, 'scripts/seamless'), ...learn]);
  expect(stdout).toContain('paths: ["/etc/poller.conf"]');
  expect(stdout).toMatch(/because: "\d+ times \(every 1\.\d s\)/);
  expect((await show('vm1')).state).toBe('awake');
  await writeFile(join(profiles, `${TEMPLATE}.yaml`), stdout);

  await guest.write('/etc/poller.conf', 'second\n');
  expect(await seamless('park', 'vm1')).toMatchObject({ exitCode: 0 });
  const before = await looked('second');
  await expect.poll(() => looked('second'), { timeout: 10_000 }).toBeGreaterThan(before + 3);
  expect((await show('vm1')).state).toBe('parked');
  expect(await seamless('unpark', 'vm1')).toMatchObject({ exitCode: 0 });
  expect(await looked('second')).toBeGreaterThan(before + 3);
}, 90_000);

test('a write is none of the profile’s: it wakes the VM, and happens there', async () => {
  expect(await seamless('park', 'vm1')).toMatchObject({ exitCode: 0 });
  await client.ask('log\n', /looked \d+ read second/);
  await awaitState('vm1', 'awake', 20_000);
  const { lastWake } = await show('vm1');
  expect(lastWake?.line).toMatch(
    /^woken by perl\[\d+\] for 10\.77\.0\.2:\d+: openat\(AT_FDCWD, "\/var\/log\/poller\.log", O_WRONLY/,
  );
  expect((await guest.run('cat', '/var/log/poller.log')).trim()).toBe('noted');
}, 60_000);

test('a profile with a mistake is refused before anything is touched, with its line', async () => {
  await writeFile(
    join(profiles, `${TEMPLATE}.yaml`),
    'programs:\n  perl:\n    - calls: [execve]\n      because: x\n',
  );
  const { exitCode, json } = await seamless('park', 'vm1');
  expect({ exitCode, code: json.error?.code }).toEqual({ exitCode: 2, code: 'CONFIG_INVALID' });
  expect(json.error?.message).toContain(`${TEMPLATE}.yaml:3: `);
  expect((await show('vm1')).state).toBe('awake');
}, 60_000);

/** How often it has looked, asked until it has read `content`: it looks once a second. */
async function looked(content = ''): Promise<number> {
  const deadline = performance.now() + 10_000;
  for (;;) {
    const [, count, read = ''] = await client.ask('?\n', /looked (\d+) read (\S*)/);
    if (read.startsWith(content)) return Number(count);
    if (performance.now() > deadline) throw new Error(`Expected it to read “${content}”, got “${read}”`);
    await delay(100);
  }
}
