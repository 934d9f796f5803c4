/** On a native VM: what its agent says of its use, and what `scripts/demo --auto` shows, with every judgement of the demo itself. */
import { join } from 'node:path';
import { beforeAll, describe, expect, test } from 'vitest';
import { exec } from '../../common/exec.ts';
import { playAuto } from '../../demo/auto.ts';
import { NATIVE } from '../../demo/auto-policy.ts';
import { type AutoReport, renderAuto } from '../../demo/auto-report.ts';
import { namespacePath, planLab } from '../../lab/plan.ts';
import { cacheDirectory } from '../../template/store.ts';
import type { GuestSample } from '../../vm-agent/api.ts';
import { say, sharedStage } from './fixtures/shared-stage.ts';

const AGENT_CALL = join(import.meta.dirname, 'vm-agent/fixtures/agent-call.ts');
/** Under load a sample and what it waits for take a while. */
const SOON = { timeout: 20_000, interval: 500 };

const stage = sharedStage({ native: true, workloadMiB: 16, sampleMs: NATIVE.sampleMs });

async function sample(): Promise<GuestSample> {
  const lab = planLab(process.env['SEAMLESS_LAB'], cacheDirectory(process.env));
  const there = ['10.78.0.11', '7443', join(lab.runDirectory, 'pki'), `vm-agent:${stage().vm}`];
  const program = [process.execPath, AGENT_CALL, ...there, 'sample', '{"programs":[]}'];
  const { stdout } = await exec(['nsenter', `--net=${namespacePath(lab, 'mgmt')}`, '--', ...program]);
  return (JSON.parse(stdout) as { result: GuestSample }).result;
}

const inVm = (line: string) => stage().inVm(['sh', '-c', line]);
const timers = async () => Object.fromEntries((await sample()).timers?.map((t) => [t.name, t.atMs]) ?? []);

describe('the agent tells', () => {
  test('who typed, and what runs in the foreground until it is ended', async () => {
    const { shell } = stage();
    await shell.run('true', 20_000);
    const { sessions, jobs } = await sample();
    expect(sessions).toEqual([{ terminal: expect.stringMatching(/^pts\/\d+$/), idleMs: expect.any(Number) }]);
    expect(sessions[0]?.idleMs).toBeLessThan(60_000);
    expect(jobs).toEqual([]);
    shell.terminal.type('sleep 600\r');
    await expect.poll(async () => (await sample()).jobs, SOON).toEqual(['sleep']);
    shell.terminal.type('\x03');
    await expect.poll(async () => (await sample()).jobs, SOON).toEqual([]);
  });

  test('timers of systemd, jobs of cron and at, as they come and go', async () => {
    const day = new Date(Date.now() + 86_400_000).toISOString().slice(0, 10);
    const minute = Math.floor(Date.parse(`${day}T04:05:00Z`) / 60_000);
    const atJob = `/var/spool/cron/atjobs/a00001${minute.toString(16).padStart(8, '0')}`;
    await inVm(`systemd-run --quiet --unit=tomorrow --on-calendar='${day} 04:05:00 UTC' true`);
    await inVm(`mkdir -p /etc/cron.d /var/spool/cron/atjobs; : > ${atJob}; : > /run/crond.pid`);
    await inVm(`echo '5 4 * * * root true' > /etc/cron.d/seamless-test`);
    await expect.poll(timers, SOON).toMatchObject({
      'tomorrow.timer': minute * 60_000,
      'at:1': minute * 60_000,
      'cron:etc/cron.d/seamless-test': expect.any(Number),
    });
    await inVm(`systemctl stop tomorrow.timer; rm /etc/cron.d/seamless-test /run/crond.pid ${atJob}`);
    await expect.poll(timers, SOON).toEqual({});
  });

  test('when the lease of its address ends', async () => {
    const [, device] = (await inVm(`ip -o -4 address show to ${stage().address}`)).split(/\s+/);
    expect((await sample()).lease).toBeNull();
    const address = `10.77.0.211/24 dev ${device}`;
    await inVm(`ip address add ${address} valid_lft 3600 preferred_lft 3600; touch /etc/cron.d`);
    await expect.poll(async () => (await sample()).lease?.expiresMs, SOON).toBeGreaterThan(Date.now() + 3e6);
    await inVm(`ip address del ${address}; touch /etc/cron.d`);
    await expect.poll(async () => (await sample()).lease, SOON).toBeNull();
  });

  test('what others than gateway processes do to the CPUs', async () => {
    const before = await sample();
    expect(before.bootId).toMatch(/^[0-9a-f-]{36}$/);
    await inVm(`systemd-run --quiet --unit=busy sh -c 'while :; do :; done'`);
    await expect.poll(async () => (await sample()).loadMs, SOON).toBeGreaterThan(before.loadMs + 300);
    await inVm('systemctl stop busy');
    expect((await sample()).cpuBusyMs).toBeGreaterThan(before.cpuBusyMs + 300);
  });
});

describe('by itself', () => {
  let report: AutoReport;

  beforeAll(async () => {
    report = await playAuto(stage(), NATIVE, say, AbortSignal.timeout(170_000));
    say(renderAuto(report));
  }, 180_000);

  test('the service parks the VM by itself when its window has passed', () => {
    expect(report.found.rule).toMatch(/^idle /);
    expect(report.found.seconds).toBeGreaterThanOrEqual(NATIVE.window);
  });

  test('probes are answered for it, and wake nobody', () => {
    expect(report.probes).toMatchObject({ portsScanned: 100, healthChecks: 5 });
  });

  test('a user wakes it, and the grace keeps it awake though every signal is quiet', () => {
    expect(report.user.cause).toBe('syscall');
    expect(report.grace.rules).toContain('grace');
    expect(report.grace.seconds).toBeGreaterThanOrEqual(2 * NATIVE.window);
    // Between two questions it was parked: no doubt was left.
    expect(report.grace.signals.filter(({ state }) => state === 'busy')).toEqual([]);
  });

  test('it is awake when its timer fires', () => {
    expect(report.timer.cause).toBe('timer');
    expect(report.timer.awakeSecondsBefore).toBeGreaterThan(0);
    expect(report.timer.firedMsLate).toBeGreaterThanOrEqual(0);
  });

  test('nobody noticed anything', () => {
    expect(report.violations).toEqual([]);
  });
});
