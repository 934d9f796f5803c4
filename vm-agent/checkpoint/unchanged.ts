/**
 * What was judged must be what is dumped. The scan looks at running processes, CRIU stops them a moment later: what one of them has
 * opened, mapped or started in between nobody has judged, and an image with it may be one that can't be restored (say a session's FIFO of a
 * login under way, which logind removes when its holder is gone).
 */
import { SeamlessError } from '../../common/errors.ts';
import type { ProcessTree } from '../../criu/manifest.ts';
import type { Mapping } from '../gateway/mappings.ts';
import { eachProcess, type Process, readProcess } from '../gateway/snapshot.ts';

/** One process, as the scan had it and stopped. */
export interface Seen {
  before: Process;
  mappedBefore: readonly Mapping[];
  now: Process;
  mappedNow: readonly Mapping[];
}

/** Throws `CHECKPOINT_FAILED` unless the stopped processes are those of the scan, with the same descriptors and mappings. */
export function assertUnchanged(seen: readonly Seen[], trees: readonly ProcessTree[]): void {
  const change = seen.map(changeOf).find((text) => text !== null) ?? newChild(trees);
  if (change === null) return;
  throw new SeamlessError(
    'CHECKPOINT_FAILED',
    `Expected the gateway processes to be as they were judged when they were stopped, but ${change}; park the VM when it is idle`,
  );
}

/** What is different, in words; `null` if nothing is that matters. What was closed or unmapped does not. */
export function changeOf({ before, mappedBefore, now, mappedNow }: Seen): string | null {
  const name = `${now.program}[${now.pid}]`;
  if (now.startTime !== before.startTime) return `${name} is another process by now`;
  const known = new Map(before.descriptors.map(({ fd, target }) => [fd, target]));
  const opened = now.descriptors.find(({ fd, target }) => known.get(fd) !== target);
  if (opened) return `${name} has opened ${opened.target}`;
  const mappedThen = new Set(mappedBefore.map(({ identity }) => identity));
  const mapped = mappedNow.find(({ identity }) => !mappedThen.has(identity));
  return mapped ? `${name} has mapped ${mapped.path}` : null;
}

function newChild(trees: readonly ProcessTree[]): string | null {
  const members = new Set(trees.flatMap(({ processes }) => processes.map(({ pid }) => pid)));
  const all = eachProcess((pid, program, field) => ({ pid, program, parent: field(1) }));
  const child = all.find(
    ({ pid, parent }) => members.has(parent) && !members.has(pid) && readProcess(pid) !== null,
  );
  return child ? `${child.program}[${child.pid}] was started` : null;
}
