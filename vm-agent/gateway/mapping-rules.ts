/** Rules about what a process has mapped, and about files that it has open without a name. */

import { GHOST_LIMIT_BYTES } from '../../criu/arguments.ts';
import type { Mapping, ProcessDetails } from './mappings.ts';
import type { Input } from './refusals.ts';
import type { Finding } from './rules.ts';
import type { Process } from './snapshot.ts';

/** The statistics of a Java machine for jstat: it writes them all the time, and nobody misses those of its time in a sink. */
const UNIMPORTANT = /^\/tmp\/hsperfdata_[^/]+\/\d+$/;

export function memoryFindings(process: Process, details: ProcessDetails, input: Input): Finding[] {
  const changed = new Set(details.changedFiles);
  return [
    ...input.snapshot
      .mappings(process.pid)
      .flatMap((mapping) => [
        ...sharedOutside(mapping, process, input),
        ...mappingFindings(mapping, changed.has(mapping.path), ownsIpc(details)),
      ]),
    ...locksOutside(process, input),
    ...details.deletedFiles.filter(({ bytes }) => bytes > GHOST_LIMIT_BYTES).map(deletedFile),
    ...details.messageQueues.map(({ fd, path }): Finding => {
      const reason = 'it has a POSIX message queue open, which CRIU can’t dump';
      return { rule: 'message-queue', descriptor: `${fd} → ${path}`, reason };
    }),
  ];
}

function mappingFindings(mapping: Mapping, isChanged: boolean, ownsIpc: boolean): Finding[] {
  const { path, deleted, shared, writable, executable } = mapping;
  if (path.startsWith('/SYSV')) {
    const reason = 'System V shared memory can’t be moved';
    return ownsIpc ? [] : [{ rule: 'system-v-memory', descriptor: path, reason }];
  }
  const isAnonymous = path === '/dev/zero' || path.startsWith('/memfd:') || path.startsWith('/[aio]');
  if (isAnonymous || UNIMPORTANT.test(path)) return [];
  if (executable && deleted) {
    const reason = 'it runs code from a file that has been replaced since';
    return [{ rule: 'deleted-executable', descriptor: path, reason }];
  }
  if (shared && writable) {
    const reason = 'it can write to a mapped file, which nobody could observe in the sink';
    return [{ rule: 'shared-file-mapping', descriptor: path, reason }];
  }
  if (!isChanged) return [];
  const reason = executable
    ? 'it runs code from a file that is not the template’s: the sink has another one, or none'
    : 'it has a file mapped that is not the template’s: the sink has only a dummy of it, full of zeros';
  return [{ rule: executable ? 'template-mismatch' : 'mapped-file', descriptor: path, reason }];
}

/** Memory that a process outside, or of another tree, sees. */
function sharedOutside(mapping: Mapping, process: Process, { snapshot, set, links }: Input): Finding[] {
  const tree = set.trees.find(({ members }) => members.includes(process.pid))?.members ?? [];
  const other = links.memorySharers(mapping, process).find((pid) => !tree.includes(pid));
  const found = other === undefined ? undefined : snapshot.processes.get(other);
  if (!found) return [];
  const isMember = set.members.has(found.pid);
  const reason = `it shares this memory with ${found.program}[${found.pid}], which ${isMember ? 'belongs to another service' : 'stays in the VM'}`;
  return [{ rule: isMember ? 'link-between-trees' : 'memory-outside', descriptor: mapping.path, reason }];
}

function locksOutside(process: Process, { snapshot, set, links }: Input): Finding[] {
  const tree = set.trees.find(({ members }) => members.includes(process.pid))?.members ?? [];
  const other = links.lockSharers(process).find((pid) => !tree.includes(pid));
  const found = other === undefined ? undefined : snapshot.processes.get(other);
  if (!found) return [];
  const file = snapshot.locks.find(
    ({ pids }) => pids.includes(process.pid) && pids.includes(found.pid),
  )?.file;
  const reason = `it holds a file lock that ${found.program}[${found.pid}] waits for, or waits for one of that process`;
  return [{ rule: 'lock-outside', descriptor: `file ${file}`, reason }];
}

function deletedFile({ fd, path, bytes }: ProcessDetails['deletedFiles'][number]): Finding {
  const reason = `it has a deleted file of ${Math.round(bytes / 2 ** 20)} MiB open, which would go into the image`;
  return { rule: 'deleted-large', descriptor: `${fd} → ${path} (deleted)`, reason };
}

function ownsIpc({ ownNamespaces }: ProcessDetails): boolean {
  return ownNamespaces.includes('ipc');
}
