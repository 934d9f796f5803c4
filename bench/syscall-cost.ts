/**
 * What the syscall filter costs: microseconds per call, and the processor time of an idle daemon that looks round ten times a second,
 * each against the same process untraced, in the same run.
 *   bench/syscall-cost [--seconds N] [--json]
 */
import { spawn } from 'node:child_process';
import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readdir, readFile, rm, rmdir, writeFile } from 'node:fs/promises';
import { createServer, type Socket } from 'node:net';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { createInterface } from 'node:readline';
import { setTimeout as delay } from 'node:timers/promises';
import { parseArgs } from 'node:util';
import { exec } from '../common/exec.ts';
import { silentLog } from '../common/log.ts';
import { startSyscallFilter } from '../sink-agent/syscall-filter.ts';

const ROOT = join(import.meta.dirname, '..');
const UNIFIED = existsSync('/sys/fs/cgroup/unified/cgroup.procs')
  ? '/sys/fs/cgroup/unified'
  : '/sys/fs/cgroup';
const CALLS = 20_000;
const POLLS_PER_SECOND = 10;
const ROUNDS = 3;

interface Figures {
  /** Microseconds a call, without and under the filter; the best of some rounds, since others use the machine too. */
  cheapUs: { untraced: number; traced: number };
  recvUs: { untraced: number; traced: number };
  /** Of one core, daemon and filter together. */
  idlePercent: { untraced: number; traced: number };
}

const { values } = parseArgs({ options: { seconds: { type: 'string' }, json: { type: 'boolean' } } });
const figures = await measure(Number(values.seconds ?? 20));
print(figures);

async function measure(seconds: number): Promise<Figures> {
  const folder = await mkdtemp(join(tmpdir(), 'slf-bench-'));
  const cgroup = join(UNIFIED, `slf-bench-${process.pid}`);
  await mkdir(cgroup);
  const daemon = await startDaemon(folder, cgroup);
  try {
    const untraced = await round(daemon, [daemon.pid], seconds);
    const filter = await startSyscallFilter({
      ...{ binary: join(ROOT, 'build/syscall-filter'), cgroup, accept: 'trigger', log: silentLog },
      onTrigger: ({ detail }) => process.stderr.write(`unexpected: ${detail}\n`),
    });
    await filter.go();
    const traced = await round(daemon, [daemon.pid, ...(await filterPids())], seconds);
    await filter.freeze();
    return {
      cheapUs: { untraced: untraced.cheap, traced: traced.cheap },
      recvUs: { untraced: untraced.recv, traced: traced.recv },
      idlePercent: { untraced: untraced.idle, traced: traced.idle },
    };
  } finally {
    await writeFile(join(cgroup, 'cgroup.kill'), '1');
    while (!(await readFile(join(cgroup, 'cgroup.events'), 'utf8')).includes('populated 0')) await delay(5);
    await rmdir(cgroup);
    daemon.socket.destroy();
    await rm(folder, { recursive: true });
  }
}

type Daemon = Awaited<ReturnType<typeof startDaemon>>;

async function startDaemon(folder: string, cgroup: string) {
  await exec([join(ROOT, 'scripts/build-helpers')], { timeoutMs: 110_000 });
  const program = join(folder, 'daemon');
  await exec(['gcc', '-std=gnu17', '-O2', '-o', program, join(import.meta.dirname, 'syscall-cost.c')]);
  const server = createServer().listen(0, '127.0.0.1');
  const connected = new Promise<Socket>((resolve) => server.once('connection', resolve));
  await new Promise((resolve) => server.once('listening', resolve));
  const { port } = server.address() as { port: number };
  const enter = `echo $$ > ${cgroup}/cgroup.procs; exec 3<>/dev/tcp/127.0.0.1/${port} "$0" <&3 >&3 3>&-`;
  const child = spawn('bash', ['-c', enter, program], { stdio: 'ignore' });
  const socket = await connected;
  server.close();
  const answers = createInterface({ input: socket })[Symbol.asyncIterator]();
  const ask = async (line: string): Promise<string> => {
    socket.write(`${line}\n`);
    return (await answers.next()).value as string;
  };
  return { pid: child.pid ?? 0, socket, ask };
}

async function round({ ask }: Daemon, pids: number[], seconds: number) {
  const best = async (what: string) => {
    const times: number[] = [];
    for (let index = 0; index < ROUNDS; index++) times.push(Number(await ask(`${what} ${CALLS}`)) / 1000);
    return Math.min(...times);
  };
  const cheap = await best('cheap');
  const recv = await best('recv');
  await ask(`idle ${POLLS_PER_SECOND}`);
  const before = await processorNs(pids);
  await delay(seconds * 1000);
  const idle = ((await processorNs(pids)) - before) / (seconds * 1e9);
  await ask('idle 0');
  return { cheap, recv, idle: idle * 100 };
}

/** The filter and its guardian: our children but for the daemon. */
async function filterPids(): Promise<number[]> {
  const found: number[] = [];
  for (const pid of (await readdir('/proc')).filter((name) => /^\d+$/.test(name))) {
    const name = await readFile(`/proc/${pid}/comm`, 'utf8').catch(() => '');
    const status = await readFile(`/proc/${pid}/status`, 'utf8').catch(() => '');
    if (name.trim() === 'syscall-filter' && status.includes(`\nPPid:\t${process.pid}\n`))
      found.push(Number(pid));
  }
  return found;
}

async function processorNs(pids: number[]): Promise<number> {
  const times = await Promise.all(pids.map((pid) => readFile(`/proc/${pid}/schedstat`, 'utf8')));
  return times.reduce((sum, text) => sum + Number(text.split(' ')[0]), 0);
}

function print({ cheapUs, recvUs, idlePercent }: Figures): void {
  if (values.json) {
    process.stdout.write(`${JSON.stringify({ cheapUs, recvUs, idlePercent })}\n`);
    return;
  }
  const row = (
    what: string,
    { untraced, traced }: { untraced: number; traced: number },
    unit: string,
    digits: number,
  ) => `${what.padEnd(48)} ${untraced.toFixed(digits)} → ${traced.toFixed(digits)} ${unit}\n`;
  process.stdout.write(
    row('a call that needs no look (getppid)', cheapUs, 'µs', 2) +
      row('a call on a TCP socket (recv)', recvUs, 'µs', 2) +
      row(
        `an idle daemon, ${POLLS_PER_SECOND} polls a second, with its filter`,
        idlePercent,
        '% of a core',
        4,
      ),
  );
}
