/** The launcher's real program: what it starts behaves as what Node starts, and many at once don't mix. */
import { once } from 'node:events';
import { mkdtemp, open, readFile, rm } from 'node:fs/promises';
import { connect, createServer } from 'node:net';
import { constants, tmpdir } from 'node:os';
import { join } from 'node:path';
import { afterAll, beforeAll, expect, test } from 'vitest';
import { exec } from '../../../common/exec.ts';
import { type Launcher, openLauncher } from '../../../criu/launcher.ts';

let launcher: Launcher;

beforeAll(async () => {
  await exec([join(import.meta.dirname, '../../../scripts/build-helpers')], { timeoutMs: 110_000 });
  launcher = openLauncher((reason) => {
    throw new Error(reason);
  });
}, 120_000);

afterAll(() => launcher.close());

test('input, output, directory and environment of a command are its own, fifty at once', async () => {
  const answers = await Promise.all(
    Array.from({ length: 50 }, (_each, index) =>
      launcher.run(['sh', '-c', 'cat; pwd; echo "$WORD" >&2'], {
        ...{ input: `line ${index}\n`, cwd: index % 2 ? '/usr' : '/', env: { WORD: `w${index}` } },
        timeoutMs: 30_000,
      }),
    ),
  );
  for (const [index, answer] of answers.entries()) {
    const stdout = `line ${index}\n${index % 2 ? '/usr' : '/'}\n`;
    expect(answer).toEqual({ problem: null, timedOut: false, stdout, stderr: `w${index}\n` });
  }
});

test('a command begins in a session of its own, with no signal blocked', async () => {
  const { stdout } = await launcher.exec([
    'sh',
    '-c',
    'cut -d" " -f1,6 /proc/self/stat; grep SigBlk /proc/self/status',
  ]);
  const [ids = '', blocked] = stdout.split('\n');
  const [pid, session] = ids.split(' ').map(Number);
  expect(Number(pid) - Number(session)).toBeLessThan(3);
  expect(blocked).toMatch(/0{16}$/);
});

test('what fails says how: a status, a signal, a program that is not there, a deadline', async () => {
  const failing = (...argv: [string, ...string[]]) => launcher.exec(argv, { timeoutMs: 300 });
  await expect(failing('sh', '-c', 'echo why >&2; exit 3')).rejects.toThrow('sh exited with 3: why');
  await expect(failing('sh', '-c', 'kill -9 $$')).rejects.toThrow('was ended by signal 9');
  await expect(failing('/no/such/program')).rejects.toThrow('could not start');
  await expect(failing('sleep', '30')).rejects.toMatchObject({ code: 'TIMEOUT' });
});

test('a large output comes whole', async () => {
  const { stdout } = await launcher.exec(['seq', '200000']);
  expect(stdout.length).toBe(1_288_894);
});

test('a command gets descriptors of the agent from 3 on, in their order, a socket among them', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'launcher-'));
  const server = createServer((socket) => socket.pipe(socket)).listen(join(folder, 'socket'));
  const file = await open(join(folder, 'file'), 'w');
  const socket = connect(join(folder, 'socket'));
  try {
    await once(socket, 'connect');
    const { fd } = (socket as unknown as { _handle: { fd: number } })._handle;
    const script = 'echo in-file >&3; echo in-socket >&4';
    const { problem } = await launcher.run(['sh', '-c', script], {
      descriptors: [file.fd, fd],
      timeoutMs: 30_000,
    });
    const [answer] = (await once(socket, 'data')) as [Buffer];
    expect(problem).toBeNull();
    expect(answer.toString()).toBe('in-socket\n');
    expect(await readFile(join(folder, 'file'), 'utf8')).toBe('in-file\n');
  } finally {
    socket.destroy();
    server.close();
    await file.close();
    await rm(folder, { recursive: true });
  }
});

test('a descriptor that the agent does not have is an error, and nothing is started', async () => {
  const { problem } = await launcher.run(['true'], { descriptors: [999_999], timeoutMs: 30_000 });
  expect(problem).toBe(`could not start: error ${constants.errno.EBADF}`);
});
