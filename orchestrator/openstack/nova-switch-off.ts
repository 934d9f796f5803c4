/**
 * Switches a VM off and on through Nova, for tenants who have no access to the hypervisor.
 *
 *   ACTIVE ── suspend, pause ──▶ SUSPENDED, PAUSED ── resume, unpause ──▶ ACTIVE
 *
 * Nothing is ever done behind Nova's back: it **stops** a server that it finds suspended without its doing, and the VM's
 * memory with it. Whoever asks looks first, waits for what Nova is about to do, and acts once; so each direction may be repeated.
 */
import { setTimeout as delay } from 'node:timers/promises';
import { SeamlessError } from '../../common/errors.ts';
import type { Log } from '../../common/log.ts';
import type { SwitchOff } from '../suspend/switch-off.ts';
import type { Nova, Server, ServerAction } from './nova.ts';
import type { OwnRequests } from './own-requests.ts';
import { statusOf } from './request.ts';

export interface NovaSwitchOffDeps {
  vm: string;
  serverId: string;
  how: 'suspend' | 'pause';
  nova: Nova;
  requests: OwnRequests;
  log: Log;
  /** Milliseconds until a change of state that does not come is an error. */
  deadlineMs?: number;
}

type Goal = 'on' | 'off';

const DEADLINE_MS = 110_000;
const POLL_MS = { first: 150, most: 1000 };
const NEVER = new AbortController().signal;
const NOWHERE = { status: 'DELETED' };

export function novaSwitchOff(deps: NovaSwitchOffDeps): SwitchOff & { away(): Promise<boolean> } {
  return {
    // Suspended, its memory is in a file and its QEMU has ended, and that is Nova’s own business.
    away: async () => isReached((await deps.nova.server(deps.serverId)) ?? NOWHERE, 'off'),
    async switchOff(_imageId, wanted) {
      const off = await reach(deps, 'off', wanted);
      // Nova can't be stopped half-way: the VM is wanted, so it comes back at once.
      if (off && wanted.aborted) await reach(deps, 'on', NEVER);
      return { off: off && !wanted.aborted, method: 'nova' };
    },
    switchOn: async () => void (await reach(deps, 'on', NEVER)),
    async woken() {},
  };
}

/** False when it was not wanted any more, before Nova was asked. */
async function reach(deps: NovaSwitchOffDeps, goal: Goal, wanted: AbortSignal): Promise<boolean> {
  const { vm, serverId, nova, requests, log, deadlineMs = DEADLINE_MS } = deps;
  const deadline = AbortSignal.timeout(deadlineMs);
  let asked: { action: ServerAction; requestId: string } | null = null;
  let last: Server | null = null;
  for (let waitMs = POLL_MS.first; !deadline.aborted; waitMs = Math.min(POLL_MS.most, waitMs * 1.4)) {
    const server: Server | null = await nova.server(serverId, deadline);
    last = server;
    if (!server)
      throw lost(vm, `server ${serverId} to be there`, 'none: it was deleted, or is in another project');
    if (server.task === null) {
      if (isReached(server, goal)) return true;
      if (asked) throw await failed(deps, asked, server);
      if (wanted.aborted) return false;
      const action = actionFrom(deps, server, goal);
      const requestId = await requests
        .perform(vm, action, () => nova.act(serverId, action, deadline))
        .catch((error) => {
          if (statusOf(error) === 409) return null; // Somebody was faster: the next look tells what to do.
          throw error;
        });
      if (requestId !== null) asked = { action, requestId };
      log.info('nova.asked', { action, requestId });
    }
    await delay(waitMs, undefined, { signal: deadline }).catch(() => {});
  }
  const state = `${last?.status ?? 'no answer'}${last?.task ? ` (${last.task})` : ''}`;
  throw new SeamlessError(
    'TIMEOUT',
    `Expected Nova to switch ${vm} ${goal} within ${deadlineMs} ms, got ${state}; look at \`openstack server event list ${serverId}\``,
  );
}

function isReached({ status }: Pick<Server, 'status'>, goal: Goal): boolean {
  return goal === 'on' ? status === 'ACTIVE' : status === 'SUSPENDED' || status === 'PAUSED';
}

function actionFrom({ vm, how }: NovaSwitchOffDeps, { status }: Server, goal: Goal): ServerAction {
  if (goal === 'off' && status === 'ACTIVE') return how;
  if (goal === 'on' && status === 'SUSPENDED') return 'resume';
  if (goal === 'on' && status === 'PAUSED') return 'unpause';
  const expected = goal === 'off' ? 'ACTIVE' : 'SUSPENDED or PAUSED';
  const why =
    status === 'SHUTOFF' && goal === 'on'
      ? `${status}: it was stopped, and its memory is lost. Its gateway processes live on in its sink, the only copy`
      : status;
  throw lost(vm, `its server to be ${expected}`, why);
}

async function failed(
  { vm, serverId, nova }: NovaSwitchOffDeps,
  { action, requestId }: { action: ServerAction; requestId: string },
  { status }: Server,
): Promise<SeamlessError> {
  const why = await nova.failureOf(serverId, requestId).catch(() => null);
  return new SeamlessError(
    'CLOUD_REFUSED',
    `Expected Nova to ${action} ${vm}, got ${status}${why ? `: ${why}` : ''}; look at \`openstack server event show ${serverId} ${requestId}\``,
    { details: { requestId, status: null } },
  );
}

function lost(vm: string, expected: string, got: string): SeamlessError {
  return new SeamlessError('HOST_UNREACHABLE', `${vm}: expected ${expected}, got ${got}`);
}
