import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { execa } from 'execa';
import { expect, onTestFinished, test, vi } from 'vitest';
import { SeamlessError } from '../../../common/errors.ts';
import { painter } from '../../../orchestrator/cli/colour.ts';
import { type Served, serve } from './api/served.ts';

const CLI = join(import.meta.dirname, '../../../orchestrator/cli/main.ts');

test('a token made here opens the service over the network, until it is revoked', async () => {
  const served = await serve({ tls: true });
  const made = await cli('token', 'create', 'laptop', '--scope', 'read', '--socket', served.socket);
  const tokenFile = join(served.folder, 'token');
  writeFileSync(tokenFile, `${made.stdout}\n`, { mode: 0o600 });
  const server = `https://127.0.0.1:${served.api.address?.port}`;
  const remote = ['--server', server, '--token-file', tokenFile, '--ca-file', join(served.folder, 'ca.crt')];
  expect((await cli('list', ...remote)).stdout).toMatch(/^VM +STATE.*\nvm1 +awake/);
  expect(await cli('park', 'vm1', ...remote)).toMatchObject({
    exitCode: 13,
    stderr: expect.stringContaining('FORBIDDEN'),
  });

  expect((await cli('token', 'list', '--socket', served.socket)).stdout).toMatch(/laptop +read .* never/);
  await cli('token', 'revoke', 'laptop', '--socket', served.socket);
  expect(await cli('list', ...remote)).toMatchObject({
    exitCode: 13,
    stderr: expect.stringContaining('UNAUTHENTICATED'),
  });
});

test('wrong use of a server elsewhere says what is missing', async () => {
  expect(await cli('list', '--server', 'https://127.0.0.1:1')).toMatchObject({
    exitCode: 2,
    stderr: expect.stringContaining('--token-file'),
  });
  expect(await cli('list', '--server', 'http://127.0.0.1:1', '--token-file', '/dev/null')).toMatchObject({
    exitCode: 2,
  });
});

test('watch is the table and then plain lines when it is piped, and goes on after a restart of the service', async () => {
  const served = await serve();
  const watching = execa(process.execPath, [CLI, 'watch', '--socket', served.socket], { reject: false });
  onTestFinished(() => void watching.kill());
  let text = '';
  watching.stdout.on('data', (chunk) => {
    text += chunk;
  });
  await vi.waitFor(() => expect(text).toMatch(/^VM +STATE.*\nvm1 +awake/), 20_000);
  await vi.waitFor(async () => {
    await turn(served, 'park');
    await turn(served, 'unpark');
    expect(text).toMatch(/vm1 {2}park succeeded in \d+ ms/);
  }, 20_000);
  await served.restart();
  await turn(served, 'park');
  await vi.waitFor(() => expect(text).toMatch(/is parked\n$/), 20_000);
  expect(text).not.toContain('\x1b');
});

test('list filters by state and label', async () => {
  const served = await serve({ vms: { vm1: { labels: { tier: 'web' } }, vm2: {} } });
  const names = async (...args: string[]) => {
    const { stdout } = await cli('list', '--json', '--socket', served.socket, ...args);
    return JSON.parse(stdout).vms.map(({ name }: { name: string }) => name);
  };
  expect(await names('--label', 'tier=web')).toEqual(['vm1']);
  expect(await names('--state', 'parked', 'stuck')).toEqual([]);
  expect((await cli('template', 'list', '--socket', served.socket)).stdout).toBe(
    'TEMPLATE  VMS\nt         2',
  );
});

test('colours are for terminals whose user has not said NO_COLOR', () => {
  expect(painter({ isTTY: true }, {})('stuck', 'stuck')).toBe('\x1b[31mstuck\x1b[0m');
  expect(painter({ isTTY: true }, { NO_COLOR: '1' })('stuck', 'stuck')).toBe('stuck');
  expect(painter({ isTTY: false }, {})('stuck', 'stuck')).toBe('stuck');
});

test('an operation that was taken back ends with its own exit code, also as JSON', async () => {
  const served = await serve();
  const { world } = served.vms.get('vm1') ?? expect.unreachable();
  world.fault = (_call, name) => {
    if (name === 'vmAgent.checkpoint') throw new SeamlessError('CHECKPOINT_FAILED', 'no');
  };
  const { exitCode, stdout } = await cli('park', 'vm1', '--json', '--socket', served.socket);
  expect(exitCode).toBe(9);
  expect(JSON.parse(stdout)).toMatchObject({
    error: { code: 'CHECKPOINT_FAILED' },
    operation: { status: 'unwound' },
  });
  const { stdout: listed } = await cli('operations', '--socket', served.socket);
  expect(listed).toMatch(/vm1 {2}park unwound in \d+ ms: no/);
});

async function turn({ client, vms }: Served, kind: 'park' | 'unpark'): Promise<void> {
  await client.post(`/v1/vms/vm1/${kind}`);
  await vms.get('vm1')?.driver.idle();
}

async function cli(...args: string[]) {
  const { exitCode, stdout, stderr } = await execa(process.execPath, [CLI, ...args], { reject: false });
  return { exitCode, stdout, stderr };
}
