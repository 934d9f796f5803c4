/**
 * The agent's methods over its operations: what is refused, what is already done, and one at a time for all that changes anything.
 */
import { existsSync, readFileSync } from 'node:fs';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { criuProblems } from '../criu/check.ts';
import { linkToParent } from '../criu/delta.ts';
import { readImage, writeImage } from '../wire/image-stream.ts';
import type { ImageHandlers, RpcHandlers } from '../wire/rpc-server.ts';
import type { VmAgentApi } from './api.ts';
import { checkpoint } from './checkpoint/checkpoint.ts';
import { readBootId, readNetwork } from './checkpoint/network.ts';
import { sentTo } from './client-traffic.ts';
import { isContainer } from './container.ts';
import type { AgentContext } from './context.ts';
import { discover, gatewayPids } from './gateway/scan.ts';
import { readMemory } from './memory.ts';
import { createObserver } from './observe.ts';
import { dummyRestore } from './restore/dummy-restore.ts';
import { restore } from './restore/restore.ts';
import { createSampler } from './sample/sample.ts';
import { readUsage } from './usage.ts';

/** What a message takes; a clock that is no further off is right. */
const CLOCK_TOLERANCE_MS = 100;

export function createService(context: AgentContext): {
  handlers: RpcHandlers<VmAgentApi>;
  images: ImageHandlers;
} {
  const { images, state } = context;
  const exclusively = createQueue();
  /** As `exclusively`, but who asked need not wait for all of it. */
  const answeredEarly = <T>(work: (answer: (result: T) => void) => Promise<void>): Promise<T> => {
    const { promise, resolve, reject } = Promise.withResolvers<T>();
    exclusively(() => work(resolve)).catch(reject);
    return promise;
  };
  const observer = createObserver(context.helpers.observer);
  /** As of the last sample: the policy changes seldom. */
  let named: readonly string[] = [];
  const sampler = createSampler(() => gatewayPids(context.managementAddress, named));
  const stateOf = (imageId: string) => state.read().images[imageId] ?? null;

  const handlers: RpcHandlers<VmAgentApi> = {
    async describe() {
      const { vm, templateId, criuVersion, managementAddress } = context;
      return {
        vm,
        templateId,
        criuVersion,
        bootId: readBootId(),
        network: await readNetwork(managementAddress),
      };
    },
    checkCriu: async () => ({ problems: await criuProblems() }),
    scan: ({ programs = [] }) =>
      exclusively(async () => {
        assertHere(context);
        await observer.stop();
        return (await discover(context.managementAddress, context.units, checked(programs))).scan;
      }),
    observe: async ({ seconds, allow = [] }, { signal }) => {
      const pids = await exclusively(async () => {
        assertHere(context);
        return [...(await discover(context.managementAddress, context.units)).set.members.keys()];
      });
      return observer.observe({ pids, seconds, allow, signal });
    },
    checkpoint: ({ imageId, answers = [], programs = [] }) =>
      exclusively(async () => {
        const { away } = state.read();
        if (away?.phase === 'dumped' && away.imageId === imageId && stateOf(imageId) === 'dumped') {
          return { manifest: await images.manifest(imageId), bytes: images.bytes(imageId) };
        }
        assertHere(context);
        if (stateOf(imageId) !== null) throw taken(imageId, stateOf(imageId));
        await observer.stop();
        return checkpoint(context, imageId, answers, checked(programs));
      }),
    restore: ({ imageId }) =>
      answeredEarly(async (answer) => {
        const known = stateOf(imageId);
        if (known === 'restored') {
          const { trees } = await images.manifest(imageId);
          return answer({ processes: trees.reduce((sum, { processes }) => sum + processes.length, 0) });
        }
        if (known === null)
          throw new SeamlessError('AGENT_REFUSED', `Expected an image ${imageId}, got none; send it first`);
        if (known === 'dumped' && state.read().away === null) {
          throw new SeamlessError(
            'AGENT_REFUSED',
            `Image ${imageId} is out of date: the processes run here again, from another`,
          );
        }
        const { processes, settled } = await restore(context, imageId);
        answer({ processes });
        await settled; // the next in the queue finds everything in order
      }),
    dummyRestore: ({ imageId }) =>
      exclusively(async () => {
        if (stateOf(imageId) === null)
          throw new SeamlessError('AGENT_REFUSED', `Expected an image ${imageId}, got none`);
        await dummyRestore(context, imageId);
        return {};
      }),
    // In the queue too: whoever asks after a lost call must not hear of a state that is about to change.
    image: ({ imageId }) => exclusively(async () => ({ state: stateOf(imageId) })),
    discard: ({ imageId, force = false }) =>
      exclusively(async () => {
        const { away } = state.read();
        if (!force && away?.imageId === imageId && stateOf(imageId) === 'dumped') {
          throw new SeamlessError(
            'AGENT_REFUSED',
            `Image ${imageId} may be the only copy of processes that are away`,
          );
        }
        state.write({ images: { [imageId]: null } });
        await images.remove(imageId);
        return {};
      }),
    async setClock({ epochMs }) {
      if (!Number.isFinite(epochMs))
        throw new SeamlessError('REQUEST_INVALID', `Expected epochMs as a number, got ${epochMs}`);
      const steppedMs = epochMs - Date.now();
      if (Math.abs(steppedMs) < CLOCK_TOLERANCE_MS || isContainer()) return { steppedMs: 0 };
      await exec(['date', '--utc', '--set', `@${(Date.now() + steppedMs) / 1000}`]);
      return { steppedMs };
    },
    async sample({ programs = [] }) {
      named = checked(programs);
      return sampler.sample();
    },
    async usage({ gateway, client = '' }) {
      if (!Array.isArray(gateway) || !gateway.every(Number.isSafeInteger))
        throw new SeamlessError('REQUEST_INVALID', 'Expected gateway as a list of PIDs');
      return { clientBytes: await sentTo(client), ...readUsage(gateway) };
    },
    memory: async () => readMemory(),
  };

  const imageHandlers: ImageHandlers = {
    async send(imageId, out) {
      if (stateOf(imageId) === null)
        throw new SeamlessError('AGENT_REFUSED', `Expected an image ${imageId}, got none`);
      out.writeHead(200, { 'content-type': 'application/octet-stream' });
      await writeImage(images.folder(imageId), out);
    },
    receive: (imageId, body) =>
      exclusively(async () => {
        const known = stateOf(imageId);
        if (known !== null && known !== 'received') {
          body.resume();
          throw taken(imageId, known);
        }
        state.write({ images: { [imageId]: null } });
        await images.remove(imageId);
        const { bytes } = await readImage(body, images.folder(imageId));
        const { parentId, trees } = await images.manifest(imageId);
        if (parentId !== undefined) {
          if (stateOf(parentId) === null) {
            await images.remove(imageId);
            throw new SeamlessError(
              'AGENT_REFUSED',
              `Expected a whole image, got one that needs ${parentId}`,
            );
          }
          const folders = trees.map(({ folder }) => folder);
          await linkToParent(images.folder(imageId), parentId, folders);
        }
        state.write({ images: { [imageId]: 'received' } });
        return { bytes };
      }),
  };
  return { handlers, images: imageHandlers };
}

/** What the set-up wrote into the template; `''` when the VM is from none. */
export function readTemplateId(path = '/usr/lib/seamless/template.json'): string {
  if (!existsSync(path)) return '';
  const { id } = JSON.parse(readFileSync(path, 'utf8')) as { id?: unknown };
  return typeof id === 'string' ? id : '';
}

function assertHere({ state }: AgentContext): void {
  const { away } = state.read();
  if (away)
    throw new SeamlessError('AGENT_REFUSED', `The gateway processes are away, in image ${away.imageId}`);
}

function taken(imageId: string, state: string | null): SeamlessError {
  return new SeamlessError(
    'AGENT_REFUSED',
    `Expected a new image name, got ${imageId}, which is ${state} already`,
  );
}

/** Names of programs, from the orchestrator. */
function checked(programs: readonly string[]): readonly string[] {
  if (Array.isArray(programs) && programs.every((program) => typeof program === 'string')) return programs;
  throw new SeamlessError('REQUEST_INVALID', 'Expected programs as a list of names');
}

/** Runs what it is given one after the other. */
function createQueue(): <T>(work: () => Promise<T>) => Promise<T> {
  let last: Promise<unknown> = Promise.resolve();
  return (work) => {
    const result = last.then(work, work);
    last = result.catch(() => {});
    return result;
  };
}
