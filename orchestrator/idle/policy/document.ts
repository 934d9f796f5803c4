/**
 * The policy file: settings for all VMs, and for those that a selector matches; later entries outrank earlier ones.
 * `thresholds` and `syn` are merged entry by entry, every other setting is replaced as a whole.
 */
import { isIP } from 'node:net';
import { LineCounter, parseDocument } from 'yaml';
import { SeamlessError } from '../../../common/errors.ts';
import { METERS, type Meter } from '../signals.ts';
import {
  type Check,
  CheckContext,
  entriesOf,
  listOf,
  mapOf,
  object,
  oneOf,
  type Placed,
  type PlacedFields,
  type Problem,
  scalar,
} from './check.ts';
import { isMatch, type Match } from './match.ts';
import { BUILT_IN, type Policy, type PolicyKey, type Settings, type SynPolicy } from './policy.ts';
import { parseDuration, parsePercent, parseRate, parseSize } from './units.ts';

/** What a selector can go by. Labels are the orchestrator's own, metadata is OpenStack's. */
export interface VmIdentity {
  name: string;
  host: string;
  labels?: Record<string, string>;
  metadata?: Record<string, string>;
}

export interface PolicyDocument {
  readonly file: string;
  policyFor(vm: VmIdentity): Policy;
}

/** Parses and checks; throws `CONFIG_INVALID` with all problems, each with its line, in `details.problems`. */
export function parsePolicy(text: string, file: string): PolicyDocument {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, prettyErrors: false });
  const context = new CheckContext(document, lines);
  for (const { pos, message } of [...document.errors, ...document.warnings]) {
    context.problems.push({ line: lines.linePos(pos[0]).line, path: '', message });
  }
  // Of a document that is not YAML the rest would be guesses.
  const root = context.problems.length > 0 ? null : ROOT(document.contents, '', context);
  if (root === null || context.problems.length > 0) throw invalid(file, context.problems);
  const { defaults, vms, hosts } = root.value;
  return {
    file,
    policyFor(vm) {
      const sections = [
        ...(defaults ? [defaults.value] : []),
        ...(vms?.value ?? []).filter(({ value }) => matches(value.match, vm)).map(({ value }) => value),
      ];
      const host = (hosts?.value ?? []).filter(({ value }) =>
        matches(value.match, { name: vm.host, host: vm.host }),
      );
      return layered(file, sections, host.at(-1)?.value.spareMemory?.value ?? BUILT_IN.spareMemoryBytes);
    },
  };
}

type ThresholdFields = Record<Meter, number>;
interface SectionFields {
  park: Settings['park'];
  window: number;
  percentile: number;
  thresholds: PlacedFields<ThresholdFields>;
  switchOff: Settings['switchOff'];
  syn: [string, Placed<SynPolicy>][];
  gateways: string[];
  healthChecks: string[];
  timers: Settings['timers'];
  lead: number;
  minGap: number;
  forecast: Settings['forecast'];
  confidence: number;
}
type Section = PlacedFields<SectionFields>;

const text = (expected: string, isOne: (value: string) => boolean) =>
  scalar(expected, (value) => (typeof value === 'string' && isOne(value) ? value : null));
const duration = (minMs: number, maxMs: number, range: string) =>
  scalar(`a duration from ${range}, such as 15m`, (value) => {
    const ms = parseDuration(String(value));
    return ms !== null && ms >= minMs && ms <= maxMs ? ms : null;
  });
const percent = (expected: string, min: number) =>
  scalar(expected, (value) => {
    const share = parsePercent(String(value));
    return share !== null && share >= min ? share : null;
  });
const count = scalar('a whole number', (value) =>
  typeof value === 'number' && Number.isInteger(value) && value >= 0 ? value : null,
);
const rate = scalar('bytes per second, such as 64 KiB/s', (value) => parseRate(String(value)));
const glob = scalar('a name, in which * stands for anything', (value) =>
  typeof value === 'string' && value.length > 0 ? value : typeof value === 'number' ? String(value) : null,
);

const THRESHOLDS: Record<Meter, Check<number>> = {
  cpu: percent('a share of the CPUs, such as 5%', 0),
  network: rate,
  disk: rate,
  sessions: count,
  jobs: count,
  load: scalar('a share of one CPU, such as 3%', (value) => parsePercent(String(value))),
  dirty: rate,
};

/** `wake`, or a mapping of timers' names to wake or ignore; a timer that none names is honoured. */
const timers: Check<Settings['timers']> = (node, path, context) => {
  const action = oneOf('wake', 'ignore');
  const target = context.resolve(node);
  const isMapping = target !== null && 'items' in target;
  if (!isMapping) {
    const found = action(node, path, context);
    return found && { value: [{ pattern: '*', action: found.value }], line: found.line };
  }
  const found = mapOf(glob, action)(node, path, context);
  const rules = found?.value.map(([pattern, { value }]) => ({ pattern, action: value }));
  return found && rules ? { value: [...rules, { pattern: '*', action: 'wake' }], line: found.line } : null;
};

const SETTINGS = {
  park: oneOf('auto', 'never', 'always-allow'),
  window: duration(5000, 24 * 3_600_000, '5s to 24h'),
  percentile: scalar('a number from 50 to 100', (value) =>
    typeof value === 'number' && value >= 50 && value <= 100 ? value : null,
  ),
  thresholds: object<ThresholdFields>(THRESHOLDS),
  switchOff: oneOf('swap', 'ram', 'disk'),
  syn: mapOf(text('a port such as tcp/80', isPort), oneOf('hold', 'accept')),
  gateways: listOf(text('the name of a program', (value) => /^[^\s/]{1,255}$/.test(value))),
  healthChecks: listOf(text('an address or a network such as 10.0.0.0/24', isNetwork)),
  timers,
  lead: duration(0, 3_600_000, '0s to 1h'),
  minGap: duration(0, 24 * 3_600_000, '0s to 24h'),
  forecast: oneOf('ignore', 'use', 'wake'),
  confidence: percent('a share from 50% to 100%', 50),
};

const words = mapOf(glob, glob);
const ROOT = object(
  {
    version: oneOf(1),
    defaults: object<SectionFields>(SETTINGS),
    vms: entriesOf(
      object<SectionFields & { match: PlacedFields<MatchFields> }>(
        { match: object<MatchFields>({ name: listOf(glob), label: words, metadata: words }), ...SETTINGS },
        ['match'],
      ),
    ),
    hosts: entriesOf(
      object<{ match: PlacedFields<MatchFields>; spareMemory: number }>(
        {
          match: object<MatchFields>({ name: listOf(glob), label: words, metadata: words }),
          spareMemory: scalar('a size such as 8 GiB', (value) => parseSize(String(value))),
        },
        ['match', 'spareMemory'],
      ),
    ),
  },
  ['version'],
);

interface MatchFields {
  name: string[];
  label: [string, Placed<string>][];
  metadata: [string, Placed<string>][];
}

function matches(match: Placed<PlacedFields<MatchFields>> | undefined, vm: VmIdentity): boolean {
  if (!match) return false;
  const { name, label, metadata } = match.value;
  const plain = (entries: Placed<[string, Placed<string>][]> | undefined): Match['labels'] =>
    (entries?.value ?? []).map(([key, { value }]) => [key, value]);
  return isMatch({ names: name?.value ?? null, labels: plain(label), metadata: plain(metadata) }, vm);
}

/** The built-in settings, overlaid by these sections in turn. */
function layered(file: string, sections: readonly Section[], spareMemoryBytes: number): Policy {
  const settings: Settings = {
    ...BUILT_IN,
    thresholds: { ...BUILT_IN.thresholds },
    syn: { ...BUILT_IN.syn },
  };
  const lines: Partial<Record<PolicyKey, number>> = {};
  const put = <K extends Exclude<keyof Settings, 'thresholds'>>(
    key: K,
    placed: Placed<Settings[K]> | undefined,
  ) => {
    if (!placed) return;
    settings[key] = placed.value as Settings[K];
    lines[key] = placed.line;
  };
  for (const section of sections) {
    put('park', section.park);
    put('windowMs', section.window);
    put('percentile', section.percentile);
    put('switchOff', section.switchOff);
    put('gateways', section.gateways);
    put('healthChecks', section.healthChecks);
    put('timers', section.timers);
    put('leadMs', section.lead);
    put('minGapMs', section.minGap);
    put('forecast', section.forecast);
    put('confidence', section.confidence && { ...section.confidence, value: section.confidence.value / 100 });
    for (const meter of METERS) {
      const threshold = section.thresholds?.value[meter];
      if (!threshold) continue;
      settings.thresholds[meter] = threshold.value;
      lines[`thresholds.${meter}`] = threshold.line;
    }
    if (section.syn) {
      for (const [port, { value }] of section.syn.value) settings.syn[port] = value;
      lines.syn = section.syn.line;
    }
  }
  return Object.freeze({ ...settings, spareMemoryBytes, file, lines });
}

function invalid(file: string, problems: readonly Problem[]): SeamlessError {
  const sorted = [...problems].sort((a, b) => a.line - b.line);
  const listed = sorted.map(
    ({ line, path, message }) => `${file}:${line}: ${path ? `${path}: ` : ''}${message}`,
  );
  return new SeamlessError('CONFIG_INVALID', listed.join('\n'), { details: { problems: sorted } });
}

function isPort(value: string): boolean {
  const [, port] = /^tcp\/(\d{1,5})$/.exec(value) ?? [];
  return port !== undefined && Number(port) >= 1 && Number(port) <= 65_535;
}

function isNetwork(value: string): boolean {
  const [address = '', prefix, ...rest] = value.split('/');
  const family = isIP(address);
  if (family === 0 || rest.length > 0) return false;
  const bits = prefix === undefined ? 1 : /^\d{1,3}$/.test(prefix) ? Number(prefix) : 0;
  // All addresses together would make all traffic trivial.
  return bits >= 1 && bits <= (family === 4 ? 32 : 128);
}
