/**
 * What hosts by ssh cost on the way of a wake, against local ones in the same run: a native lab, whose VM wakes fast enough
 * to tell milliseconds; cycles of park and wake, the orchestrator started anew for each block with the other transport.
 * A wake is a client's TCP connection: its SYN is the trigger, and its handshake is over when packets are released.
 *
 *   SEAMLESS_LAB=b node bench/ssh-transport.ts [--template NAME] [--blocks N] [--cycles N] [--json]
 */
import { readFileSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { exec } from '../common/exec.ts';
import { takeDown } from '../lab/down.ts';
import { startHostSsh } from '../lab/host-ssh.ts';
import { namespacePath, planLab, planVms } from '../lab/plan.ts';
import { type RunningProcess, stopProcess } from '../lab/processes.ts';
import { orchestratorConfigPath, serviceNamed, startService } from '../lab/services.ts';
import { writeState } from '../lab/state.ts';
import { bringUp } from '../lab/up.ts';
import { cacheDirectory } from '../template/store.ts';

type Kind = 'local' | 'ssh';
const KINDS: readonly Kind[] = ['local', 'ssh'];
/** Those between the trigger and the release that talk to a host. */
const HOST_STEPS = ['resume', 'flip'];
const ROOT = join(import.meta.dirname, '..');

const { values } = parseArgs({
  options: {
    template: { type: 'string', default: 'default' },
    blocks: { type: 'string', default: '6' },
    cycles: { type: 'string', default: '6' },
    json: { type: 'boolean', default: false },
  },
});
const lab = planLab(process.env.SEAMLESS_LAB, cacheDirectory(process.env));
const vms = planVms(lab, [`vm1:${values.template}`], 1024);
const { signal } = new AbortController();
const report = (line: string) => process.stderr.write(`bench: ${line}\n`);
const state = await bringUp({ lab, vms, source: ROOT, services: true, native: true, report, signal });
try {
  const connectMs: Record<Kind, number[]> = { local: [], ssh: [] };
  const stepMs: Record<Kind, Record<string, number[]>> = { local: {}, ssh: {} };
  const configs = await bothConfigurations();
  for (let block = 0; block < Number(values.blocks); block++) {
    for (const kind of KINDS) {
      writeFileSync(orchestratorConfigPath(lab), configs[kind]);
      await restartOrchestrator();
      for (let cycle = 0; cycle < Number(values.cycles); cycle++) {
        await seamless('park', 'vm1');
        const ms = await connectFromClient();
        await seamless('unpark', 'vm1'); // waits for the end of what the connection began
        // The first one after a start opens what is kept from then on.
        if (cycle === 0) continue;
        connectMs[kind].push(ms);
        for (const [step, took] of lastUnpark()) stepMs[kind][step] = [...(stepMs[kind][step] ?? []), took];
      }
      report(
        `block ${block + 1}, ${kind}: connected after ${Math.round(median(connectMs[kind]))} ms (median)`,
      );
    }
  }
  print(connectMs, stepMs);
} finally {
  await takeDown(lab, () => {});
}

async function bothConfigurations(): Promise<Record<Kind, string>> {
  const local = readFileSync(orchestratorConfigPath(lab), 'utf8');
  const ssh = JSON.parse(local) as { hosts: { name: 'hv' | 'sink'; transport: object }[] };
  for (const host of ssh.hosts) host.transport = await startHostSsh(lab, host.name, note, signal);
  return { local, ssh: JSON.stringify(ssh, null, 2) };
}

async function restartOrchestrator(): Promise<void> {
  const former = state.processes.find(({ name }) => name === 'orchestrator');
  if (former) await stopProcess(former, 10_000);
  state.processes = state.processes.filter((running) => running !== former);
  await startService(lab, ROOT, serviceNamed('orchestrator'), note, signal);
}

function note(running: RunningProcess): void {
  state.processes.push(running);
  writeState(lab, state);
}

async function seamless(...argv: string[]): Promise<void> {
  await exec([process.execPath, join(ROOT, 'orchestrator/cli/main.ts'), ...argv], {
    env: { SEAMLESS_SOCKET: join(lab.runDirectory, 'seamless.sock') },
    timeoutMs: 60_000,
  });
}

/** Milliseconds of a TCP handshake with the VM's sshd, measured by the client. */
async function connectFromClient(): Promise<number> {
  const script = `const t = performance.now();
    const s = require('node:net').connect(22, ${JSON.stringify(vms[0]?.production.addresses[0].split('/')[0])}, () => {
      console.log(performance.now() - t); s.destroy(); });`;
  const { stdout } = await exec(
    ['nsenter', `--net=${namespacePath(lab, 'client')}`, '--', process.execPath, '-e', script],
    { timeoutMs: 30_000 },
  );
  return Number(stdout);
}

/** The steps of the last unpark and what each took, from the service's log. */
function lastUnpark(): [string, number][] {
  const lines = readFileSync(join(lab.runDirectory, 'orchestrator.log'), 'utf8').trim().split('\n');
  const steps = lines
    .map((line) => JSON.parse(line) as { event: string; sagaId?: string; step?: string; ms?: number })
    .filter(({ event, sagaId }) => event === 'step.succeeded' && sagaId?.startsWith('unpark-'));
  const last = steps.at(-1)?.sagaId;
  return steps.filter(({ sagaId }) => sagaId === last).map(({ step = '', ms = 0 }) => [step, ms]);
}

function print(connectMs: Record<Kind, number[]>, stepMs: Record<Kind, Record<string, number[]>>): void {
  const of = (kind: Kind) => ({
    wakes: connectMs[kind].length,
    connectMs: { p25: quantile(connectMs[kind], 0.25), p50: median(connectMs[kind]) },
    stepP50Ms: Object.fromEntries(Object.entries(stepMs[kind]).map(([step, all]) => [step, median(all)])),
    hostStepsP50Ms: HOST_STEPS.reduce((sum, step) => sum + median(stepMs[kind][step] ?? []), 0),
  });
  const result = { local: of('local'), ssh: of('ssh') };
  if (values.json) return void process.stdout.write(`${JSON.stringify(result)}\n`);
  const row = (what: string, value: (kind: Kind) => number) => {
    const [local, ssh] = KINDS.map(value) as [number, number];
    const cells = [local, ssh, ssh - local].map((ms) => ms.toFixed(1).padStart(9));
    process.stdout.write(`${what.padEnd(34)}${cells.join('')}\n`);
  };
  process.stdout.write(`milliseconds, ${result.ssh.wakes} wakes each             local      ssh     more\n`);
  row('trigger to release, p50', (kind) => result[kind].connectMs.p50);
  row('trigger to release, p25', (kind) => result[kind].connectMs.p25); // others on the machine disturb it less
  row(`the steps with hosts (${HOST_STEPS.join(', ')})`, (kind) => result[kind].hostStepsP50Ms);
  for (const step of Object.keys(result.ssh.stepP50Ms))
    row(`  ${step}`, (kind) => result[kind].stepP50Ms[step] ?? Number.NaN);
}

function median(all: readonly number[]): number {
  return quantile(all, 0.5);
}

function quantile(all: readonly number[], part: number): number {
  const sorted = [...all].sort((a, b) => a - b);
  return sorted[Math.min(sorted.length - 1, Math.floor(sorted.length * part))] ?? Number.NaN;
}
