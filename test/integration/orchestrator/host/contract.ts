/** What every host transport promises, against a real host: run for each of them by the test files beside this one. */
import { randomBytes } from 'node:crypto';
import { existsSync, mkdirSync, mkdtempSync, readFileSync, rmdirSync, rmSync, writeFileSync } from 'node:fs';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import type { Duplex } from 'node:stream';
import { afterAll, expect, onTestFinished, test, vi } from 'vitest';
import type { HostTransport } from '../../../../orchestrator/host/transport.ts';

const CGROUPS = '/sys/fs/cgroup/unified';

/** @param host gives the transport, whose host has the file system that the tests run on */
export function hostContract(host: () => HostTransport): void {
  const folder = mkdtempSync(join(tmpdir(), 'seamless-host-'));
  afterAll(() => rmSync(folder, { recursive: true, force: true }));

  test('a command’s output and errors come back apart, without the last line’s end', async () => {
    const got = await host().run(['sh', '-c', 'echo out; echo; echo err >&2; printf ä']);
    expect(got).toEqual({ stdout: 'out\n\nä', stderr: 'err' });
  });

  test('arguments arrive as they are, whatever they hold', async () => {
    const odd = [
      `it's`,
      '"',
      '$HOME',
      '`id`',
      'a b',
      '*',
      '',
      '\\',
      'new\nline',
      '-n',
      '~',
      '!!',
      'ü',
      '#',
      ';',
    ];
    const { stdout } = await host().run(['printf', '<%s>\\n', ...odd]);
    expect(stdout).toBe(odd.map((word) => `<${word}>`).join('\n'));
  });

  test('a command reads its input to the end, and without one finds none', async () => {
    const input = 'x'.repeat(1_000_000);
    expect((await host().run(['wc', '-c'], { input })).stdout.trim()).toBe('1000000');
    expect((await host().run(['cat'])).stdout).toBe('');
  });

  test('a failing command throws its status and the end of what it said', async () => {
    const failing = host().run(['sh', '-c', 'echo first; echo "no such thing" >&2; exit 3']);
    await expect(failing).rejects.toMatchObject({
      code: 'COMMAND_FAILED',
      message: expect.stringContaining('exited with 3'),
      details: { exitCode: 3, output: expect.stringContaining('no such thing') },
    });
    const long = host().run(['sh', '-c', 'seq 100000; exit 1']);
    await expect(long).rejects.toSatisfy(
      ({ details }) => details.output.length <= 4000 && details.output.endsWith('100000'),
    );
  });

  test('a command ended by a signal says which', async () => {
    await expect(host().run(['sh', '-c', 'kill -TERM $$'])).rejects.toMatchObject({
      code: 'COMMAND_FAILED',
      details: { signal: 'SIGTERM' },
    });
  });

  test('a program that is not there is a failed command that names it', async () => {
    await expect(host().run(['no-such-program', 'x'])).rejects.toMatchObject({
      code: 'COMMAND_FAILED',
      message: expect.stringContaining('no-such-program'),
    });
  });

  test('a hundred commands at once get each its own answer', async () => {
    const numbers = Array.from({ length: 100 }, (_, index) => `${index}`);
    const answers = await Promise.all(numbers.map((number) => host().run(['echo', number])));
    expect(answers.map(({ stdout }) => stdout)).toEqual(numbers);
  });

  test('many short commands, one after the other, all end well', async () => {
    for (let round = 0; round < 200; round++) await host().run(['true']);
  });

  test('ten megabytes of output arrive whole', async () => {
    const line = '0123456789abcde';
    const { stdout } = await host().run(['sh', '-c', `yes ${line} | head -c ${10 << 20}`]);
    expect(stdout.length).toBe((10 << 20) - 1);
    expect(stdout.replaceAll(`${line}\n`, '')).toBe(line);
  });

  test('a command that is late is ended on the host', async () => {
    const { argv, isAlive } = sleeper();
    await expect(host().run(argv, { timeoutMs: 500 })).rejects.toMatchObject({ code: 'TIMEOUT' });
    await vi.waitUntil(() => !isAlive(), { timeout: 3000, interval: 20 });
  });

  test('a command that is no longer wanted is ended on the host, one that ignores SIGTERM too', async () => {
    const { argv, isAlive } = sleeper('trap "" TERM; ');
    const controller = new AbortController();
    const running = host().run(argv, { signal: controller.signal });
    running.catch(() => {});
    await vi.waitUntil(isAlive, { timeout: 3000, interval: 20 });
    controller.abort();
    await expect(running).rejects.toMatchObject({ code: 'ABORTED' });
    await vi.waitUntil(() => !isAlive(), { timeout: 3000, interval: 20 });
    await expect(host().run(['true'], { signal: controller.signal })).rejects.toMatchObject({
      code: 'ABORTED',
    });
  });

  test('a file is read and written, control files included', async () => {
    const path = join(folder, 'a file');
    await host().writeFile(path, 'grün, and longer than what follows\n');
    await host().writeFile(path, 'grün\n');
    expect(readFileSync(path, 'utf8')).toBe('grün\n');
    expect(await host().readFile(path)).toBe('grün\n');
    expect(await host().readFile('/proc/self/smaps_rollup')).toMatch(/^Rss: /m);
    const long = 'x'.repeat(200_000);
    await host().writeFile(path, long);
    expect(await host().readFile(path)).toBe(long);
  });

  test('a file that can’t be read or written says so', async () => {
    const nowhere = join(folder, 'no/such/file');
    const failed = {
      code: 'HOST_UNREACHABLE',
      message: expect.stringContaining(nowhere),
      cause: { code: 'ENOENT' },
    };
    await expect(host().readFile(nowhere)).rejects.toMatchObject(failed);
    await expect(host().writeFile(nowhere, 'x')).rejects.toMatchObject(failed);
  });

  test('what the kernel says against a control file’s new value is passed on', async () => {
    const cgroup = join(CGROUPS, `slt-${process.pid}`);
    mkdirSync(cgroup);
    onTestFinished(() => rmdirSync(cgroup));
    await expect(host().writeFile(join(cgroup, 'cgroup.procs'), '999999999')).rejects.toMatchObject({
      code: 'HOST_UNREACHABLE',
      cause: { code: 'ESRCH' },
    });
  });

  test('many files are read at once', async () => {
    const paths = Array.from({ length: 50 }, (_, index) => join(folder, `many-${index}`));
    for (const path of paths) writeFileSync(path, path);
    expect(await Promise.all(paths.map((path) => host().readFile(path)))).toEqual(paths);
  });

  test('binary data passes a Unix socket unchanged, both ways', async () => {
    const stream = await host().connect(await echoServer());
    const sent = randomBytes(5 << 20);
    stream.write(sent);
    expect((await readBytes(stream, sent.length)).equals(sent)).toBe(true);
    stream.destroy();
  });

  test('twenty sockets at once are kept apart', async () => {
    const path = await echoServer();
    const answers = Array.from({ length: 20 }, async (_, index) => {
      const stream = await host().connect(path);
      stream.write(`number ${String(index).padStart(3, '0')}`);
      const answer = await readBytes(stream, 10);
      stream.destroy();
      return Number(answer.subarray(7).toString());
    });
    expect(await Promise.all(answers)).toEqual(answers.map((_, index) => index));
  });

  test('a socket ends when its peer ends it, and the peer sees our end', async () => {
    const peers: Socket[] = [];
    const path = await socketServer((peer) => {
      peers.push(peer);
      peer.write('bye');
    });
    const stream = await host().connect(path);
    await readBytes(stream, 3);
    peers[0]?.end();
    await vi.waitUntil(() => stream.destroyed, { timeout: 3000, interval: 5 });

    const other = await host().connect(path);
    await readBytes(other, 3);
    other.destroy();
    await vi.waitUntil(() => peers[1]?.destroyed, { timeout: 3000, interval: 5 });
  });

  test('no such socket, and one on which nobody listens, are refused', async () => {
    const failed = { code: 'HOST_UNREACHABLE', message: expect.stringContaining("can't connect") };
    await expect(host().connect(join(folder, 'no.sock'))).rejects.toMatchObject(failed);
    const left = join(folder, 'left.sock');
    writeFileSync(left, '');
    await expect(host().connect(left)).rejects.toMatchObject(failed);
    await expect(host().connect(left, AbortSignal.abort(new Error('given up')))).rejects.toThrow('given up');
  });

  test('a daemon has a session of its own and writes to its log; one that is not there is refused', async () => {
    const logFile = join(folder, 'daemon.log');
    const { pid } = await host().startDaemon(['sh', '-c', 'echo "it’s here"; exec sleep 60'], { logFile });
    onTestFinished(() => void process.kill(pid, 'SIGKILL'));
    await vi.waitUntil(() => existsSync(logFile) && readFileSync(logFile, 'utf8') !== '', { timeout: 3000 });
    expect(readFileSync(logFile, 'utf8')).toBe('it’s here\n');
    const [, , , session] = readFileSync(`/proc/${pid}/stat`, 'utf8').split(') ')[1]?.split(' ') ?? [];
    expect(Number(session)).toBe(pid);
    await expect(host().startDaemon(['no-such-program'], { logFile })).rejects.toMatchObject({
      code: 'HOST_UNREACHABLE',
      message: expect.stringContaining('no-such-program'),
    });
  });

  test('a program of ours is put there, once, and runs', async () => {
    const program = join(folder, 'our-program');
    writeFileSync(program, `#!/bin/sh\necho ${folder} "$1"\n`, { mode: 0o755 });
    const path = await host().install(program);
    if (path !== program) onTestFinished(() => rmSync(path));
    expect((await host().run([path, 'x'])).stdout).toBe(`${folder} x`);
    expect(await host().install(program)).toBe(path);
  });

  /** A command that sleeps for long, and whether it still does. */
  function sleeper(first = '') {
    const pidFile = join(folder, `pid-${randomBytes(4).toString('hex')}`);
    const argv = ['sh', '-c', `${first}echo $$ >"$0"; while :; do sleep 1; done`, pidFile];
    const isAlive = () => {
      const pid = existsSync(pidFile) ? readFileSync(pidFile, 'utf8').trim() : '';
      return pid !== '' && existsSync(`/proc/${pid}/cwd`);
    };
    return { argv: argv as [string, ...string[]], isAlive };
  }

  function echoServer(): Promise<string> {
    return socketServer((peer) => peer.pipe(peer));
  }

  async function socketServer(serve: (peer: Socket) => void): Promise<string> {
    const path = join(folder, `${randomBytes(4).toString('hex')}.sock`);
    const peers = new Set<Socket>();
    const server = createServer((peer) => {
      peers.add(peer);
      peer.on('error', () => {});
      serve(peer);
    });
    await new Promise<void>((resolve) => server.listen(path, resolve));
    onTestFinished(() => {
      for (const peer of peers) peer.destroy();
      server.close();
    });
    return path;
  }
}

export function readBytes(stream: Duplex, count: number): Promise<Buffer> {
  return new Promise((resolve, reject) => {
    const chunks: Buffer[] = [];
    let bytes = 0;
    const ended = () => reject(new Error(`expected ${count} bytes, got ${bytes}`));
    stream.on('data', function take(chunk: Buffer) {
      chunks.push(chunk);
      bytes += chunk.length;
      if (bytes < count) return;
      stream.off('data', take).off('close', ended);
      resolve(Buffer.concat(chunks));
    });
    stream.once('close', ended);
    stream.once('error', reject);
  });
}
