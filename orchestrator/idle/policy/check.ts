/**
 * Checks a YAML document against a schema made of small checks, and keeps the line of each value, so that a problem, and later a
 * decision, can name it. All problems are gathered; a value with a problem is left out.
 */
import { type Document, isAlias, isMap, isScalar, isSeq, type LineCounter, type Node } from 'yaml';

/** A value and the line it stands in. */
export interface Placed<T> {
  value: T;
  line: number;
}

export interface Problem {
  line: number;
  /** `vms[0].window`; empty for the file as a whole. */
  path: string;
  message: string;
}

/** Gives the value, or null after it has noted a problem. */
export type Check<T> = (node: Node | null, path: string, context: CheckContext) => Placed<T> | null;

export class CheckContext {
  readonly problems: Problem[] = [];
  readonly #document: Document;
  readonly #lines: LineCounter;

  constructor(document: Document, lines: LineCounter) {
    this.#document = document;
    this.#lines = lines;
  }

  line(node: Node | null): number {
    const offset = node?.range?.[0];
    return offset === undefined ? 1 : this.#lines.linePos(offset).line;
  }

  note(node: Node | null, path: string, message: string): null {
    this.problems.push({ line: this.line(node), path, message });
    return null;
  }

  /** What an alias stands for. */
  resolve(node: Node | null): Node | null {
    return isAlias(node) ? (node.resolve(this.#document) ?? null) : node;
  }
}

/** A scalar that `parse` accepts; `expected` completes “expected …”. */
export function scalar<T>(
  expected: string,
  parse: (value: string | number | boolean) => T | null | undefined,
): Check<T> {
  return (node, path, context) => {
    const target = context.resolve(node);
    const value: unknown = isScalar(target) ? target.value : undefined;
    const known = typeof value === 'string' || typeof value === 'number' || typeof value === 'boolean';
    const parsed = known ? parse(value) : null;
    if (parsed !== null && parsed !== undefined) return { value: parsed, line: context.line(node) };
    return context.note(node, path, `expected ${expected}, got ${shown(target)}`);
  };
}

export function oneOf<const T extends string | number>(...values: T[]): Check<T> {
  return scalar(values.map(String).join(' or '), (value) => values.find((each) => each === value));
}

/** A scalar or a list of what `check` accepts. */
export function listOf<T>(check: Check<T>): Check<T[]> {
  return (node, path, context) => {
    const target = context.resolve(node);
    const items = isSeq(target) ? (target.items as Node[]) : [target];
    const found = items.map((item, index) =>
      check(item, isSeq(target) ? `${path}[${index}]` : path, context),
    );
    return allFound(found) ? { value: found.map(({ value }) => value), line: context.line(node) } : null;
  };
}

/** A list, each of whose entries keeps its line. */
export function entriesOf<T>(check: Check<T>): Check<Placed<T>[]> {
  return (node, path, context) => {
    const target = context.resolve(node);
    if (!isSeq(target)) return context.note(node, path, `expected a list, got ${shown(target)}`);
    const found = target.items.map((item, index) => check(item as Node, `${path}[${index}]`, context));
    return { value: found.filter((each) => each !== null), line: context.line(node) };
  };
}

/** A mapping whose keys are free within `key`. */
export function mapOf<T>(key: Check<string>, check: Check<T>): Check<[string, Placed<T>][]> {
  return (node, path, context) => {
    const target = context.resolve(node);
    if (!isMap(target)) return context.note(node, path, `expected a mapping, got ${shown(target)}`);
    const entries: [string, Placed<T>][] = [];
    for (const { key: name, value } of target.items as { key: Node; value: Node | null }[]) {
      const known = key(name, path, context);
      const found = known && check(value ?? name, `${path}.${known.value}`, context);
      if (known && found) entries.push([known.value, { ...found, line: context.line(name) }]);
    }
    return { value: entries, line: context.line(node) };
  };
}

export type Fields<T> = { [K in keyof T]: Check<T[K]> };
export type PlacedFields<T> = { [K in keyof T]?: Placed<T[K]> };

/** A mapping with these keys and no other; a key that is missing or has a problem is left out. The line of each is its key's. */
export function object<T>(
  fields: Fields<T>,
  required: readonly (keyof T & string)[] = [],
): Check<PlacedFields<T>> {
  const names = Object.keys(fields);
  return (node, path, context) => {
    const target = context.resolve(node);
    if (!isMap(target)) return context.note(node, path, `expected a mapping, got ${shown(target)}`);
    const found: PlacedFields<T> = {};
    const missing = new Set<string>(required);
    for (const { key, value } of target.items as { key: Node; value: Node | null }[]) {
      const name = isScalar(key) ? String(key.value) : '?';
      const at = path === '' ? name : `${path}.${name}`;
      missing.delete(name);
      if (!names.includes(name)) {
        context.note(key, at, `unknown key${suggestion(name, names)}`);
        continue;
      }
      const check = fields[name as keyof T];
      const placed = check(value ?? key, at, context);
      if (placed) found[name as keyof T] = { ...placed, line: context.line(key) };
    }
    for (const name of missing) context.note(node, path === '' ? name : `${path}.${name}`, 'missing');
    return { value: found, line: context.line(node) };
  };
}

function allFound<T>(found: readonly (Placed<T> | null)[]): found is Placed<T>[] {
  return found.every((each) => each !== null);
}

function shown(node: Node | null): string {
  if (isMap(node)) return 'a mapping';
  if (isSeq(node)) return 'a list';
  return isScalar(node) && node.value !== null ? JSON.stringify(node.value) : 'nothing';
}

/** Says which keys there are: the one that is meant, when it is near, else all. */
function suggestion(name: string, names: readonly string[]): string {
  const plain = (text: string) => text.toLowerCase().replaceAll(/[^a-z]/g, '');
  const near = names.find(
    (each) => plain(each) === plain(name) || each.startsWith(name.slice(0, 4)) || name.startsWith(each),
  );
  return near ? `; did you mean ${near}?` : `; expected ${names.join(', ')}`;
}
