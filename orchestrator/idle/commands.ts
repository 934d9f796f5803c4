/** What `seamless simulate` and `seamless policy check` do. */
import { once } from 'node:events';
import { createWriteStream, readFileSync } from 'node:fs';
import type { Command } from 'commander';
import { SeamlessError } from '../../common/errors.ts';
import { parsePolicy } from './policy/document.ts';
import { type Policy, type PolicyKey, placeOf } from './policy/policy.ts';
import { CSV_HEADER, csvRows, readCsv } from './simulate/csv.ts';
import { generateVm } from './simulate/generate.ts';
import { type Contender, USUAL } from './simulate/policies.ts';
import { markdownTable, textTable } from './simulate/report.ts';
import { simulate, type TraceSource } from './simulate/simulate.ts';

interface SimulateFlags {
  trace?: string;
  vms?: string;
  days?: string;
  seed?: string;
  policy?: string;
  threads?: string;
  export?: string;
  table?: boolean;
  json?: boolean;
}

export async function runSimulate(self: Command): Promise<void> {
  const flags = self.opts<SimulateFlags>();
  if (flags.trace !== undefined && (flags.vms ?? flags.days ?? flags.seed ?? flags.export) !== undefined) {
    throw new SeamlessError('REQUEST_INVALID', 'Expected --trace, or --vms, --days and --seed; got both');
  }
  const generated = {
    vms: wholeNumber('--vms', flags.vms, 1000, 1, 1_000_000),
    days: wholeNumber('--days', flags.days, 30, 1, 3660),
    seed: wholeNumber('--seed', flags.seed, 1, 0, 2 ** 32 - 1),
  };
  const threads = wholeNumber('--threads', flags.threads, 0, 1, 256);
  const contenders: Contender[] = [...USUAL];
  if (flags.policy !== undefined) {
    const text = readText(flags.policy);
    parsePolicy(text, flags.policy);
    contenders.splice(2, 0, { name: 'policy', text, file: flags.policy });
  }
  if (flags.export !== undefined) return exportCsv(flags.export, generated);
  const source: TraceSource = flags.trace === undefined ? generated : { traces: await readCsv(flags.trace) };
  const { stderr } = process;
  const report = await simulate({
    source,
    contenders,
    ...(threads > 0 ? { threads } : {}),
    ...(stderr.isTTY ? { onProgress: progressBar(stderr) } : {}),
  });
  print(flags.json ? JSON.stringify(report) : flags.table ? markdownTable(report) : textTable(report));
}

export async function runPolicyCheck(self: Command): Promise<void> {
  const [file = ''] = self.args;
  const { vm, json } = self.opts<{ vm?: string; json?: boolean }>();
  const document = parsePolicy(readText(file), file);
  const policy = vm === undefined ? null : document.policyFor({ name: vm, host: '' });
  if (json) return print(JSON.stringify({ file, problems: [], ...(policy ? { vm, policy } : {}) }));
  print(policy ? settingsText(policy) : `${file}: no problems`);
}

/** Each setting with the place that made it. */
function settingsText(policy: Policy): string {
  const { thresholds, spareMemoryBytes: _host, file: _file, lines: _lines, ...settings } = policy;
  const flat = [
    ...Object.entries(settings),
    ...Object.entries(thresholds).map(([meter, value]) => [`thresholds.${meter}`, value] as const),
  ];
  return flat
    .map(
      ([key, value]) => `${key.padEnd(20)} ${JSON.stringify(value)} (${placeOf(policy, key as PolicyKey)})`,
    )
    .join('\n');
}

async function exportCsv(
  path: string,
  { vms, days, seed }: { vms: number; days: number; seed: number },
): Promise<void> {
  const out = createWriteStream(path);
  await once(out, 'open');
  out.write(`${CSV_HEADER}\n`);
  for (let index = 0; index < vms; index++) {
    const rows = [...csvRows(generateVm(seed, index, days))];
    if (!out.write(`${rows.join('\n')}\n`)) await once(out, 'drain');
  }
  out.end();
  await once(out, 'finish');
  print(`${path}: ${vms} VMs, ${days} days`);
}

/** One line that is rewritten, a few times a second. */
function progressBar(stream: NodeJS.WriteStream): (done: number, all: number) => void {
  const startedAt = performance.now();
  let shownAt = 0;
  return (done, all) => {
    const now = performance.now();
    if (done < all && now - shownAt < 200) return;
    shownAt = now;
    const share = done / all;
    const bar = '█'.repeat(Math.round(share * 30)).padEnd(30, '░');
    const left = Math.round(((now - startedAt) / share) * (1 - share)) / 1000;
    stream.write(
      `\r\x1b[K${bar} ${Math.floor(share * 100)} %  ${done} of ${all} VMs, ${Math.ceil(left)} s left`,
    );
    if (done === all) stream.write('\r\x1b[K');
  };
}

function wholeNumber(
  flag: string,
  value: string | undefined,
  usual: number,
  min: number,
  max: number,
): number {
  if (value === undefined) return usual;
  const number = /^\d+$/.test(value) ? Number(value) : Number.NaN;
  if (number >= min && number <= max) return number;
  throw new SeamlessError(
    'REQUEST_INVALID',
    `Expected ${flag} as a whole number from ${min} to ${max}, got ${value}`,
  );
}

function readText(file: string): string {
  try {
    return readFileSync(file, 'utf8');
  } catch (cause) {
    throw new SeamlessError('REQUEST_INVALID', `Expected a policy at ${file}: ${(cause as Error).message}`, {
      cause,
    });
  }
}

function print(text: string): void {
  process.stdout.write(`${text}\n`);
}
