/**
 * The dummy restore: the same work as a real one, in namespaces of its own and stopped, then ended. It brings the pages that a
 * wake-up needs back to memory (this agent, CRIU, the kernel's side of it) and touches neither ports, PIDs, cgroups nor systemd.
 */
import { rm, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { restoreArguments } from '../../criu/arguments.ts';
import type { NetworkIdentity, ProcessTree } from '../../criu/manifest.ts';
import { startCriu } from '../../criu/run.ts';
import { enterNamespaces } from '../checkpoint/placeholders.ts';
import type { AgentContext } from '../context.ts';
import { openDeadEnds } from './externals.ts';

const SCRIPT = join(import.meta.dirname, 'dummy-restore.sh');
const UNSHARE = ['unshare', '--mount', '--pid', '--net', '--fork', '--mount-proc', '--kill-child', '--'];

/** Restores image `imageId` for nothing. Throws `RESTORE_FAILED`; the image is as before either way. */
export async function dummyRestore(context: AgentContext, imageId: string): Promise<void> {
  const { images, state, log } = context;
  const manifest = await images.manifest(imageId);
  const batch = join('/run/seamless', 'dummy-network');
  await writeFile(batch, networkBatch(manifest.network));
  const placeholders = state.read().away?.placeholders ?? [];
  try {
    for (const tree of manifest.trees) {
      if (tree.boundSockets?.length) {
        // CRIU would bind these anew, over the real ones: mounts are private in there, but the files below them are not.
        log.info('dummy.skipped', { imageId, tree: tree.root, boundSockets: tree.boundSockets });
        continue;
      }
      const root = tree.processes.find(({ pid }) => pid === tree.root);
      const keeper = placeholders.find(({ cgroup }) => cgroup === root?.cgroup);
      const enter = keeper ? enterNamespaces(keeper.pid, tree.namespaces) : [];
      await restoreStopped(context, join(images.folder(imageId), tree.folder), tree, [
        ...enter,
        ...UNSHARE,
        SCRIPT,
        batch,
      ]);
    }
  } finally {
    await rm(batch, { force: true });
  }
}

async function restoreStopped(
  context: AgentContext,
  folder: string,
  tree: ProcessTree,
  prefix: readonly string[],
): Promise<void> {
  const ends = await openDeadEnds(tree.externals);
  const args = restoreArguments(context.criuVersion, {
    leaderless: tree.leaderless === true,
    folder,
    inherit: ends.inherit,
    leaveStopped: true,
  });
  const { launcher } = context;
  const { descriptors } = ends;
  await startCriu(args, folder, { launch: launcher.run, prefix, descriptors }).done.finally(ends.close);
}

/** All addresses on loopback, and a way to everywhere: sockets can be bound and connected, and nothing leaves. */
function networkBatch({ interfaces }: NetworkIdentity): string {
  const addresses = interfaces.flatMap((one) => one.addresses);
  const isIpv6 = addresses.some((address) => address.includes(':'));
  return [
    'link set lo up',
    ...addresses.map((address) => `address add ${address} dev lo${address.includes(':') ? ' nodad' : ''}`),
    'route add default dev lo',
    ...(isIpv6 ? ['route add ::/0 dev lo'] : []),
    '',
  ].join('\n');
}
