/**
 * The sink agent's configuration: a JSON file, checked as a whole. Unknown keys are refused, and all problems reported at once.
 */
import { readFile } from 'node:fs/promises';
import { SeamlessError } from '../common/errors.ts';
import type { TlsFiles } from '../wire/tls.ts';

export interface SinkAgentConfig {
  /** Of this sink server; its certificate says `sink-agent:NAME`. */
  name: string;
  /** On the management network. */
  listen: { address: string; port: number };
  tls: TlsFiles;
  /** Folder of templates: `NAME/template.json` and `NAME/root/`. */
  templatesDir: string;
  /** Records and images of sinks. A tmpfs is mounted on its `images` when it isn't on one. */
  stateDir: string;
  /** A cgroup v2 folder under which each sink gets its own. */
  cgroupRoot: string;
  /** What sinks are made in; `namespaces` unless told. */
  runtime: RuntimeConfig;
  /** How long a sink runs before the memory of its processes goes to swap, where there is some: 60000 unless told; `null`: never. */
  pageOutAfterMs: number | null;
}

export interface SinkLimits {
  /** Most memory of one sink, 1024 unless told: one that does not fit is refused at the park (sandbox/limits.ts). */
  memoryMiB: number;
  /** Most threads of one sink, 4096 unless told. */
  pids: number;
}

/** With `namespaces` the limits hold where cgroup v2 has the controllers. `socket`: of Docker or Podman. */
export type RuntimeConfig = ({ type: 'namespaces' } | { type: 'docker'; socket: string }) & SinkLimits;

const PATH = /^\/[^,:\\\s]*$/; // the template's root is a mount option, in which these have a meaning

export async function readConfig(file: string): Promise<SinkAgentConfig> {
  let text: string;
  try {
    text = await readFile(file, 'utf8');
  } catch (cause) {
    throw invalid([`${file} can’t be read: ${(cause as Error).message}`], cause);
  }
  try {
    return parseConfig(JSON.parse(text));
  } catch (cause) {
    throw cause instanceof SeamlessError
      ? cause
      : invalid([`${file} is not JSON: ${(cause as Error).message}`], cause);
  }
}

/** Throws `CONFIG_INVALID` with every problem in `details.problems`. */
export function parseConfig(value: unknown): SinkAgentConfig {
  const problems: string[] = [];
  const path = (at: string, given: unknown) => {
    if (typeof given === 'string' && PATH.test(given)) return given;
    problems.push(
      `${at}: expected an absolute path without space, comma, colon or backslash, got ${show(given)}`,
    );
    return '';
  };
  const text = (at: string, given: unknown) => {
    if (typeof given === 'string' && given !== '') return given;
    problems.push(`${at}: expected a text, got ${show(given)}`);
    return '';
  };
  const port = (at: string, given: unknown) => {
    if (Number.isInteger(given) && Number(given) >= 0 && Number(given) <= 65_535) return Number(given);
    problems.push(`${at}: expected a port number, got ${show(given)}`);
    return 0;
  };
  const top = section(
    '',
    value,
    ['name', 'listen', 'tls', 'templatesDir', 'stateDir', 'cgroupRoot', 'runtime', 'pageOutAfterMs'],
    problems,
  );
  const listen = section('listen', top.listen, ['address', 'port'], problems);
  const tls = section('tls', top.tls, ['ca', 'cert', 'key'], problems);
  const positive = (at: string, given: unknown, otherwise: number) => {
    if (given === undefined) return otherwise;
    if (Number.isInteger(given) && Number(given) > 0) return Number(given);
    problems.push(`${at}: expected a positive number, got ${show(given)}`);
    return otherwise;
  };
  const milliseconds = (at: string, given: unknown, otherwise: number) => {
    if (given === undefined || (Number.isInteger(given) && Number(given) >= 0 && Number(given) <= 65_535))
      return Number(given ?? otherwise);
    problems.push(`${at}: expected milliseconds up to 65535 or null, got ${show(given)}`);
    return otherwise;
  };
  const runtimeOf = (given: unknown): RuntimeConfig => {
    if (given === undefined) return runtimeOf({ type: 'namespaces' });
    const type = typeof given === 'object' && given !== null && 'type' in given ? given.type : undefined;
    const keys = type === 'namespaces' ? [] : ['socket'];
    const runtime = section('runtime', given, ['type', ...keys, 'memoryMiB', 'pids'], problems);
    const limits = {
      memoryMiB: positive('runtime.memoryMiB', runtime.memoryMiB, 1024),
      pids: positive('runtime.pids', runtime.pids, 4096),
    };
    if (type === 'namespaces') return { type, ...limits };
    if (type !== 'docker') problems.push(`runtime.type: expected namespaces or docker, got ${show(type)}`);
    return { type: 'docker', socket: path('runtime.socket', runtime.socket), ...limits };
  };
  const config: SinkAgentConfig = {
    name: text('name', top.name),
    listen: { address: text('listen.address', listen.address), port: port('listen.port', listen.port) },
    tls: { ca: text('tls.ca', tls.ca), cert: text('tls.cert', tls.cert), key: text('tls.key', tls.key) },
    templatesDir: path('templatesDir', top.templatesDir),
    stateDir: path('stateDir', top.stateDir),
    cgroupRoot: path('cgroupRoot', top.cgroupRoot),
    runtime: runtimeOf(top.runtime),
    pageOutAfterMs:
      top.pageOutAfterMs === null ? null : milliseconds('pageOutAfterMs', top.pageOutAfterMs, 60_000),
  };
  if (problems.length > 0) throw invalid(problems);
  return config;
}

function section(at: string, value: unknown, keys: string[], problems: string[]): Record<string, unknown> {
  if (typeof value !== 'object' || value === null || Array.isArray(value)) {
    problems.push(`${at || 'configuration'}: expected an object with ${keys.join(', ')}, got ${show(value)}`);
    return {};
  }
  for (const key of Object.keys(value)) {
    if (!keys.includes(key))
      problems.push(`${at ? `${at}.` : ''}${key}: unknown; known are ${keys.join(', ')}`);
  }
  return value as Record<string, unknown>;
}

function show(value: unknown): string {
  return value === undefined ? 'nothing' : JSON.stringify(value);
}

function invalid(problems: string[], cause?: unknown): SeamlessError {
  return new SeamlessError('CONFIG_INVALID', `The configuration of the sink agent: ${problems.join('; ')}`, {
    cause,
    details: { problems },
  });
}
