/**
 * A template's profile: what its programs may do in a sink beyond the filter's rules, because an idle daemon's housekeeping would wake
 * the VM for nothing. `profiles/TEMPLATE.yaml`, written by people, perhaps from what `seamless profile learn` proposed.
 *
 *   programs:
 *     java:
 *       - allow: [stat, open]
 *         paths: [/etc/tomcat10/*.xml]
 *         because: tomcat looks for changed files every 10 s
 *
 * Only what looks can be allowed: `stat` (stat, access, readlink and the like), `open` (for reading alone; read, seek, close), `list` (the
 * names in a folder), and a few calls without path. Everything else is refused here, and the filter does not know it either. docs/activity.md says more.
 */
import { readFileSync } from 'node:fs';
import { isMap, isScalar, isSeq, LineCounter, type Node, parseDocument } from 'yaml';
import { SeamlessError } from '../common/errors.ts';

export const EFFECTS = ['stat', 'open', 'list'] as const;
/** Calls without path; the filter's `--explain` lists the same. */
export const CALLS = ['sysinfo'] as const;

export interface ProfileEntry {
  allow: (typeof EFFECTS)[number][];
  paths: string[];
  calls: string[];
  because: string;
}
export type Profile = Record<string, ProfileEntry[]>;

const PROGRAM = /^[A-Za-z0-9][A-Za-z0-9._+:-]{0,14}$/;
const MOST_PATH_BYTES = 1024;

/** The profile of a template, empty when there is no file. `CONFIG_INVALID` with every problem in `details.problems`. */
export function readProfile(file: string): Profile {
  let text: string;
  try {
    text = readFileSync(file, 'utf8');
  } catch (cause) {
    if ((cause as NodeJS.ErrnoException).code === 'ENOENT') return {};
    throw invalid(file, [`can’t be read: ${(cause as Error).message}`], cause);
  }
  return parseProfile(text, file);
}

/** @param file what problems are reported for, as `file:line: …`. */
export function parseProfile(text: string, file = 'the profile'): Profile {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true });
  const problems: string[] = document.errors.map(
    ({ message, pos }) => `${lines.linePos(pos[0]).line}: ${message.split('\n')[0]}`,
  );
  const report = (node: unknown, message: string) => {
    const [start] = (node as Node | null)?.range ?? [0];
    problems.push(`${lines.linePos(start).line}: ${message}`);
  };
  const profile: Profile = {};
  if (problems.length === 0) {
    const top = fields(document.contents, ['programs'], 'the profile', report);
    for (const [program, entries] of members(top['programs'], 'programs', report)) {
      if (!PROGRAM.test(program))
        report(entries, `“${program}”: expected a program’s name of at most 15 characters`);
      profile[program] = entriesOf(program, entries, report);
    }
  }
  if (problems.length > 0) throw invalid(file, problems);
  return profile;
}

type Report = (node: unknown, message: string) => void;

function entriesOf(program: string, node: unknown, report: Report): ProfileEntry[] {
  if (!isSeq(node)) {
    report(node, `programs.${program}: expected a list of entries`);
    return [];
  }
  return node.items.map((item) => {
    const at = `an entry of ${program}`;
    const { allow, paths, calls, because } = fields(item, ['allow', 'paths', 'calls', 'because'], at, report);
    if (allow === undefined && calls === undefined)
      report(item, `${at}: expected \`allow\` with \`paths\`, or \`calls\``);
    if ((allow === undefined) !== (paths === undefined))
      report(item, `${at}: \`allow\` and \`paths\` belong together`);
    const allowed = texts(allow, `${at}: allow`, report, (value) =>
      includes(EFFECTS, value) ? null : onlyLooks(value, EFFECTS),
    ) as ProfileEntry['allow'];
    const problemOf = allowed.includes('list') ? folderProblem : pathProblem;
    return {
      allow: allowed,
      paths: texts(paths, `${at}: paths`, report, problemOf),
      calls: texts(calls, `${at}: calls`, report, (value) =>
        includes(CALLS, value) ? null : onlyLooks(value, CALLS),
      ),
      because: reason(because, item, at, report),
    };
  });
}

function onlyLooks(value: string, known: readonly string[]): string {
  return `expected ${known.join(', ')}, got ${value}: a profile can only allow what looks, never what writes, creates, starts or connects`;
}

/** Why `path` can't be answered in a sink; `null` when it can. */
function pathProblem(path: string): string | null {
  const components = path.split('/').slice(1);
  if (!path.startsWith('/')) return `expected an absolute path, got ${path}`;
  if (components.some((each) => each === '' || each === '.' || each === '..'))
    return `expected a path without empty, “.” and “..” components, got ${path}`;
  if (/[\\"[\]\p{Cc}]/u.test(path) || Buffer.byteLength(path) > MOST_PATH_BYTES)
    return `expected at most ${MOST_PATH_BYTES} bytes without quotes, backslashes, brackets and control characters, got ${path}`;
  if (components.slice(0, -1).some((each) => /[*?]/.test(each)))
    return `expected * and ? in the last component only, got ${path}`;
  if (components[0] === 'proc')
    return components[1] === 'self' && !/[*?]/.test(path)
      ? null
      : `expected below /proc only /proc/self/…, which the sink knows as well, got ${path}`;
  if (/^\/(sys|dev)(\/|$)/.test(path) || /^\/run\/seamless/.test(path))
    return `expected a file, got ${path}, which is the sink’s own`;
  if (/^\/(var\/)?tmp(\/|$)/.test(path))
    return `expected no temporary file, got ${path}: many services have their own /tmp`;
  return null;
}

/** A listed folder is put in place as a whole, so it is named by itself, and is none of the kernel's. */
function folderProblem(path: string): string | null {
  if (/[*?]/.test(path) || path === '/' || path.startsWith('/proc'))
    return `expected a folder to list, without * and ? and not below /proc, got ${path}`;
  return pathProblem(path);
}

function reason(node: unknown, item: unknown, at: string, report: Report): string {
  if (isScalar(node) && typeof node.value === 'string' && node.value.trim() !== '') return node.value;
  report(node ?? item, `${at}: expected \`because\` with the reason`);
  return '';
}

function texts(
  node: unknown,
  at: string,
  report: Report,
  problemOf: (value: string) => string | null,
): string[] {
  if (node === undefined) return [];
  if (!isSeq(node) || node.items.length === 0) {
    report(node, `${at}: expected a list`);
    return [];
  }
  return node.items.flatMap((item) => {
    const value = isScalar(item) ? item.value : undefined;
    const problem = typeof value === 'string' ? problemOf(value) : 'expected a text';
    if (problem === null) return [value as string];
    report(item, `${at}: ${problem}`);
    return [];
  });
}

function fields(
  node: unknown,
  known: readonly string[],
  at: string,
  report: Report,
): Record<string, unknown> {
  const found: Record<string, unknown> = {};
  for (const [key, value, keyNode] of members(node, at, report)) {
    if (known.includes(key)) found[key] = value;
    else report(keyNode, `${at}: unknown key ${key}; known are ${known.join(', ')}`);
  }
  return found;
}

function members(node: unknown, at: string, report: Report): [string, unknown, unknown][] {
  if (isMap(node))
    return node.items.map(({ key, value }) => [String(isScalar(key) ? key.value : key), value, key]);
  report(node, `${at}: expected keys and values`);
  return [];
}

function includes(list: readonly string[], value: string): boolean {
  return list.includes(value);
}

function invalid(file: string, problems: string[], cause?: unknown): SeamlessError {
  const listed = problems.map((problem) => `${file}:${problem}`);
  return new SeamlessError('CONFIG_INVALID', listed.join('\n'), { cause, details: { problems: listed } });
}
