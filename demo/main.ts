/**
 * The main job, real in every part: a VM with users on it is parked three times and comes back by a typed command,
 * by a new login, and by the command line. Everything reported was measured in this run; what a client should not have
 * noticed and did is a violation, and makes the exit status 1.
 *
 * With `--auto` nobody gives an order: the service finds the VM idle by itself.
 */
import { join } from 'node:path';
import { parseArgs } from 'node:util';
import { asSeamlessError, ERRORS } from '../common/errors.ts';
import { bringPage } from '../lab/page.ts';
import { PAGE_PORT, planLab } from '../lab/plan.ts';
import { cacheDirectory } from '../template/store.ts';
import { playAuto } from './auto.ts';
import { EMULATED, NATIVE, type Pace } from './auto-policy.ts';
import { renderAuto } from './auto-report.ts';
import type { Onlooker } from './pictures.ts';
import { playDemo } from './play.ts';
import { renderReport } from './report.ts';
import { prepareStage, type Stage } from './stage.ts';

/** It is the host's memory here, and nothing is reclaimed. */
const NATIVE_WORKLOAD_MIB = 16;

const { values: options } = parseArgs({
  options: {
    json: { type: 'boolean', default: false },
    keep: { type: 'boolean', default: false },
    transport: { type: 'string', default: 'ssh' },
    sink: { type: 'string', default: 'namespaces' },
    auto: { type: 'boolean', default: false },
    native: { type: 'boolean', default: false },
    page: { type: 'boolean', default: false },
    pictures: { type: 'string' },
  },
});

const say = (text: string) => process.stderr.write(`${text}\n`);
const interrupted = new AbortController();
// Not `once`: while a command runs, execa's own listener ends the process at once when it finds itself alone.
for (const signal of ['SIGINT', 'SIGTERM'] as const) process.on(signal, () => interrupted.abort());

if (options.native && !options.auto) {
  say('demo: --native goes with --auto');
  process.exit(ERRORS.REQUEST_INVALID.exit);
}

try {
  const pace = options.native ? NATIVE : EMULATED;
  const stage = await prepareStage(say, interrupted.signal, {
    keepLab: options.keep,
    transport: options.transport,
    sink: options.sink,
    native: options.native,
    page: options.page || options.pictures !== undefined,
    ...(options.native ? { workloadMiB: NATIVE_WORKLOAD_MIB } : {}),
    ...(options.auto ? { sampleMs: pace.sampleMs } : {}),
  });
  const ends: (() => Promise<void>)[] = [];
  try {
    const onlooker = await openPage(ends);
    const [report, text] = options.auto ? await auto(stage, pace) : await byOrder(stage);
    process.stdout.write(`${options.json ? JSON.stringify(report) : text}\n`);
    process.exitCode = report.violations.length === 0 ? 0 : 1;
    if (options.pictures) await onlooker?.takePictures(options.pictures);
  } finally {
    for (const end of ends.reverse()) await end();
    await stage.close();
  }
} catch (thrown) {
  const error = asSeamlessError(thrown);
  const output = error.details.output;
  say(`demo: ${error.message}\n  ${ERRORS[error.code].next}${output ? `\n${output}` : ''}`);
  if (error.code === 'INTERNAL') say(error.stack ?? '');
  process.exitCode = ERRORS[error.code].exit;
}

/** For whoever runs the demo, and in a browser of our own when pictures of it are wanted. */
async function openPage(ends: (() => Promise<void>)[]): Promise<Onlooker | null> {
  if (!options.page && options.pictures === undefined) return null;
  const lab = planLab(process.env['SEAMLESS_LAB'], cacheDirectory(process.env));
  const page = await bringPage(lab, join(import.meta.dirname, '..'), options.page ? PAGE_PORT : 0);
  ends.push(page.close);
  if (options.page) say(`the page: ${page.url}  token: ${page.token}`);
  if (options.pictures === undefined) return null;
  // Loaded when it is wanted: it is large, and no part of what runs elsewhere.
  const { openInChromium } = await import('./pictures.ts');
  const onlooker = await openInChromium(page);
  ends.push(onlooker.close);
  return onlooker;
}

async function byOrder(stage: Stage) {
  const report = await playDemo(stage, say, interrupted.signal);
  return [report, renderReport(report)] as const;
}

async function auto(stage: Stage, pace: Pace) {
  const report = await playAuto(stage, pace, say, interrupted.signal);
  return [report, renderAuto(report)] as const;
}
