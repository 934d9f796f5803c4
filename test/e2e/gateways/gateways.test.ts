/**
 * Every application of applications/, one after the other in one VM, through run.ts. Outcomes go to build/gateways/, from which
 * table.ts makes docs/applications.md. `SEAMLESS_APPS=dropbear,vsftpd` runs only the files of these names.
 */
import { mkdir, readdir, writeFile } from 'node:fs/promises';
import { basename, join } from 'node:path';
import { setTimeout as delay } from 'node:timers/promises';
import { afterAll, beforeAll, expect, test } from 'vitest';
import type { Application } from './application.ts';
import { isFailure, type Outcome, runApplication } from './run.ts';
import { type GatewayStage, makeStage, makeTemplate } from './stage.ts';
import { OUTCOMES } from './table.ts';

process.env['SEAMLESS_LAB'] ||= 'apps';
const SET_UP_MS = 600_000;
const RUN_MS = 120_000;
const APPLICATION_MS = RUN_MS + 60_000;
const FOLDER = join(import.meta.dirname, 'applications');

const files = (await readdir(FOLDER)).filter((name) => name.endsWith('.ts')).sort();
const all = (await Promise.all(files.map(load))).flat();
const wanted = process.env['SEAMLESS_APPS']?.split(',');
const chosen = all.filter(({ file }) => wanted?.includes(file) ?? true);
// sshd is there in every VM, as in life: it is never stopped for the others.
const units = [...new Set(all.flatMap(({ application }) => application.units))].filter(
  (unit) => unit !== 'ssh.service',
);

const say = (text: string): void => void process.stderr.write(`gateways: ${text}\n`);
let stage: GatewayStage | undefined;

beforeAll(async () => {
  // An emulated VM boots for minutes with all of them enabled, as Debian's packages are.
  const installed = process.env['SEAMLESS_APPS_ON'] === 'qemu' ? chosen : all;
  await makeTemplate([...new Set(installed.flatMap(({ application }) => application.packages))], say);
  stage = await makeStage(units, say);
}, SET_UP_MS);

afterAll(async () => {
  await stage?.down();
}, 120_000);

test.each(chosen)(
  '$application.name is parked and woken, and nobody notices',
  { timeout: APPLICATION_MS },
  async ({ application }) => {
    stage ??= await makeStage(units, say);
    const run = runApplication(stage, application);
    const outcome = await Promise.race([run, delay(RUN_MS, null, { ref: false })]);
    if (!outcome?.isTidy) {
      await stage.down(); // which ends a run that hangs, too: nothing answers it any more
      stage = undefined;
    }
    if (!outcome) throw new Error(`Expected ${application.name} to have been tried within ${RUN_MS} ms`);
    await keep(outcome);
    const failed = Object.entries(outcome.columns).filter(([, verdict]) => isFailure(verdict));
    const reasons = application.reasons ?? {};
    expect(Object.fromEntries(failed.filter(([column]) => !(column in reasons)))).toEqual({});
    expect(failed.map(([column]) => column)).toEqual(expect.arrayContaining(Object.keys(reasons)));
    expect(outcome.faults).toEqual([]);
  },
);

async function load(file: string): Promise<{ file: string; application: Application }[]> {
  const { applications } = (await import(join(FOLDER, file))) as { applications: Application[] };
  return applications.map((application) => ({ file: basename(file, '.ts'), application }));
}

async function keep(outcome: Outcome): Promise<void> {
  await mkdir(OUTCOMES, { recursive: true });
  const name = outcome.application.replaceAll(/[^A-Za-z0-9]+/g, '-');
  await writeFile(join(OUTCOMES, `${name}.json`), `${JSON.stringify(outcome, null, 2)}\n`);
}
