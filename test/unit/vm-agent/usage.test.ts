import { spawn } from 'node:child_process';
import { once } from 'node:events';
import { expect, onTestFinished, test } from 'vitest';
import { readUsage } from '../../../vm-agent/usage.ts';

/** A PID that nobody has: the agent is none of the processes here. */
const NO_AGENT = 2 ** 22 + 1;

test('a process that was started is the youngest, with the uptime at which that was', async () => {
  const before = readUsage([], NO_AGENT);
  const child = spawn('sleep', ['60'], { stdio: 'ignore' });
  onTestFinished(() => void child.kill('SIGKILL'));
  await once(child, 'spawn');
  const after = readUsage([], NO_AGENT);
  expect(after.newest?.startedMs).toBeGreaterThanOrEqual(before.uptimeMs - 20);
  expect(after.bootId).toBe(before.bootId);
  expect(readUsage([], process.pid).newest?.pid).not.toBe(child.pid);
});

test('a child that ran and ended shows in its parent, which is counted apart when it is a gateway process', async () => {
  const parent = spawn('bash', ['-c', 'read line; for i in 1 2 3; do /bin/true; done; echo done; read line']);
  onTestFinished(() => void parent.kill('SIGKILL'));
  await once(parent, 'spawn');
  const gateway = [parent.pid as number];
  const before = readUsage(gateway, NO_AGENT);
  expect(before.gateway.reaped).toBe(0);
  parent.stdin.write('go\n');
  await once(parent.stdout, 'data');
  expect(readUsage(gateway, NO_AGENT).gateway.reaped).toBeGreaterThan(0);
});
