/**
 * Stand-ins for the ends that stayed in the VM: what inside/restore-tree.pl is told to make, and what CRIU calls them.
 *
 * journald's stream becomes one end of a socket pair, logind's session FIFO a FIFO of ours; whoever logs by /dev/log finds a
 * datagram socket there. On the way back each has a new name, which is read off the restored processes.
 */
import { readFile, readlink, stat } from 'node:fs/promises';
import { SeamlessError } from '../../common/errors.ts';
import type { External, HeldFile, ProcessTree } from '../../criu/manifest.ts';

/** The first number for inherited descriptors: above what any program of the chain opens itself. */
const FIRST_FD = 200;

export interface StandIns {
  /** Arguments of inside/restore-tree.pl. */
  ends: string[];
  inherit: { fd: number; key: string }[];
}

/** The stand-ins of one tree. Only one tree is given `sockets`: they are the sink's, made once. */
export function standIns(tree: ProcessTree, sockets: readonly HeldFile[]): StandIns {
  const inherit = tree.externals.map(({ restoreKey }, index) => ({ fd: FIRST_FD + index, key: restoreKey }));
  const ends = tree.externals.map(({ kind, owner }, index) => {
    const fd = FIRST_FD + index;
    switch (kind) {
      case 'journal-stream':
        return `stream:${fd}`;
      case 'session-fifo':
        return `fifo:${fd}:${tree.root}-${index}`;
      case 'device':
        return `device:${fd}:${owner}`;
    }
  });
  return { ends: [...ends, ...sockets.map(({ path }) => `dgram:${path}`)], inherit };
}

/** The externals of a restored tree under their present names. @param hostPid host's number of a process of the VM. */
export function renameExternals(
  externals: readonly External[],
  hostPid: (pid: number) => number | undefined,
): Promise<External[]> {
  return Promise.all(
    externals.map(async (external) => {
      const at = external.descriptors[0];
      const pid = at && hostPid(at.pid);
      if (!at || pid === undefined) {
        throw new SeamlessError(
          'RESTORE_FAILED',
          `Expected a process that holds the ${external.kind} of ${external.owner}`,
        );
      }
      return { ...external, ...(await criuNames(pid, at.fd)) };
    }),
  );
}

async function criuNames(pid: number, fd: number): Promise<{ dumpKey: string; restoreKey: string }> {
  const path = `/proc/${pid}/fd/${fd}`;
  const link = await readlink(path);
  const socket = /^socket:\[(\d+)\]$/.exec(link)?.[1];
  if (socket !== undefined) return { dumpKey: `unix[${socket}]`, restoreKey: link };
  const [{ ino }, info] = await Promise.all([stat(path), readFile(`/proc/${pid}/fdinfo/${fd}`, 'utf8')]);
  const mount = Number(/^mnt_id:\s*(\d+)$/m.exec(info)?.[1]);
  const key = `file[${mount.toString(16)}:${ino.toString(16)}]`;
  return { dumpKey: key, restoreKey: key };
}
