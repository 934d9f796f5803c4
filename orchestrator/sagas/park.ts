/**
 * Park: the gateway processes go from the VM to its sink, then the VM is switched off.
 *
 *   admit → prepare → plug → probe → hold → checkpoint → receive → restore → ▌flip▐ → divert → run → switchOff → confirm
 *
 * What a client could notice lies between `hold` and `run`; all that takes time without need of it comes before.
 * A crash before `flip` unwinds: the VM's own image is exact, and nothing has run anywhere since the dump.
 *
 * Where the one good copy is:   … checkpoint: running in the VM · then: the VM's image (the sink's copy has not run)
 *                               · from flip on: the sink, because its stack may have acknowledged packets.
 */
import { SeamlessError } from '../../common/errors.ts';
import { type AllowedCall, answeredPaths } from '../../criu/answers.ts';
import type { Listener, NetworkIdentity } from '../../criu/manifest.ts';
import type { ConnectionPolicy } from '../../sink-agent/api.ts';
import { given, inDoubt, type SagaDefinition, type StepContext } from '../saga/definition.ts';
import type { SwitchOffMethod } from '../suspend/switch-off.ts';
import type { ParkCause } from '../vm/state.ts';
import type { Held, Ports } from './ports.ts';

export interface ParkState {
  imageId: string;
  /** By hand unless told. */
  because?: ParkCause;
  templateId?: string;
  network?: NetworkIdentity;
  /** Of the template's profile, as it was when the park began. */
  allow?: AllowedCall[];
  /** Of configuration and policy, then too. */
  connections?: ConnectionPolicy;
  programs?: readonly string[];
  processes?: number;
  sinkPort?: string;
  listeners?: Listener[];
  imageBytes?: number;
  /** Connection requests that came during the park: they wait at the VM’s port, and wake it. */
  held?: Held;
  off?: boolean;
  method?: SwitchOffMethod;
  residentBeforeBytes?: number;
  residentAfterBytes?: number;
}

/** For a sink beside its image, which is there up to three times: as received, as processes, and as what goes back. */
const SINK_ROOM_BYTES = 64 * 1024 * 1024;
const IMAGE_COPIES = 3;

export function parkSaga(ports: Ports): SagaDefinition<ParkState> {
  const { vm, vmAgent, sinkAgent, network } = ports;
  return {
    name: 'park',
    afterCrash: 'unwind',
    persistMs: 60_000,
    steps: [
      // Looks only, and forgets what an earlier unpark could not tidy up.
      { name: 'admit', timeoutMs: 20_000, do: (_state, context) => admit(ports, context), undo: null },
      {
        name: 'prepare',
        // A sink server with Docker imports a template at its first sink. Nothing is held meanwhile.
        timeoutMs: 90_000,
        async do(state, { signal }) {
          const { port } = await sinkAgent.call(
            'prepare',
            {
              vm,
              templateId: given(state.templateId, 'templateId'),
              network: given(state.network, 'network'),
              vmAgent: ports.vmAgentAddress,
              connections: state.connections ?? { acceptPorts: [], healthChecks: [] },
              allow: state.allow ?? [],
            },
            { signal, timeoutMs: 80_000 },
          );
          return { sinkPort: port };
        },
        undo: (_state, { signal }) => destroySink(ports, signal),
      },
      {
        name: 'plug',
        async do(state) {
          await network.plug(given(state.sinkPort, 'sinkPort'));
          return undefined;
        },
        undo: async (state) => network.unplug(given(state.sinkPort, 'sinkPort')),
      },
      {
        // A sink that no client's packet reaches would hold its connections for ever: such a VM stays awake.
        name: 'probe',
        async do({ sinkPort, network: identity }) {
          await network.probe(given(sinkPort, 'sinkPort'), given(identity, 'network'));
          return undefined;
        },
        undo: null, // Its flows go with the port's.
      },
      {
        name: 'hold',
        async do() {
          await network.hold();
          return undefined;
        },
        // Comes after the undo of `checkpoint`: the packets find the sockets that they are for.
        undo: async () => void (await network.release()),
      },
      {
        name: 'checkpoint',
        timeoutMs: 60_000,
        async do({ imageId, allow = [], programs = [] }, { signal }) {
          const { manifest, bytes } = await vmAgent.call(
            'checkpoint',
            { imageId, answers: answeredPaths(allow), programs: [...programs] },
            { signal, timeoutMs: 60_000 },
          );
          return { listeners: manifest.listeners, imageBytes: bytes };
        },
        undo: ({ imageId }, { signal }) => restoreInVm(ports, imageId, signal),
      },
      {
        name: 'receive',
        timeoutMs: 60_000,
        async do({ imageId }, { signal }) {
          await sinkAgent.call('receive', { vm, imageId }, { signal, timeoutMs: 60_000 });
          return undefined;
        },
        undo: null, // The copy goes with the sink.
      },
      {
        name: 'restore',
        timeoutMs: 60_000,
        async do({ imageId }, { signal }) {
          await sinkAgent.call('restore', { vm, imageId }, { signal, timeoutMs: 60_000 });
          return undefined;
        },
        // A flip that failed at the VM's switch may have opened its port: with that closed, the end of its sockets reaches nobody.
        // The VM's image is the good one.
        undo: async ({ sinkPort }, { signal }) => {
          await network.shut(given(sinkPort, 'sinkPort'));
          await destroySink(ports, signal);
        },
      },
      {
        name: 'flip',
        pivot: true,
        do: (state) => flip(ports, state),
        undo: null, // It failed for certain, or this is not reached.
      },
      {
        name: 'divert',
        async do() {
          return { held: await network.divert() };
        },
        undo: null,
      },
      {
        name: 'run',
        async do(_state, { signal }) {
          const sink = await sinkAgent.call('status', { vm }, { signal });
          // After a crash it may have run and been stopped by activity since, or have been lost: that stays, and wakes the VM.
          if (sink?.state !== 'frozen' && sink?.state !== 'lost')
            await sinkAgent.call('run', { vm }, { signal });
          return undefined;
        },
        undo: null,
      },
      {
        name: 'switchOff',
        timeoutMs: 120_000,
        do: (state, context) => switchOff(ports, state, context),
        undo: null,
      },
      {
        name: 'confirm',
        async do(_state, { signal }) {
          const sink = await sinkAgent.call('status', { vm }, { signal });
          if (sink && ['running', 'frozen', 'lost'].includes(sink.state)) return undefined;
          throw new SeamlessError(
            'AGENT_REFUSED',
            `Expected a live sink of ${vm}, got ${sink?.state ?? 'none'}`,
          );
        },
        undo: null,
      },
    ],
  };
}

async function admit(ports: Ports, { signal }: StepContext): Promise<Partial<ParkState>> {
  const { vm, vmAgent, sinkAgent } = ports;
  const profile = ports.profile();
  const { connections, programs } = ports.settings();
  const call = { signal, timeoutMs: 10_000 };
  const [description, scan, server] = await Promise.all([
    vmAgent.call('describe', {}, call),
    vmAgent.call('scan', { programs: [...programs] }, call),
    sinkAgent.call('describe', {}, call),
    ports.network.reachable(),
    ports.power.admit?.(signal),
  ]);
  if (!server.templateIds.includes(description.templateId)) {
    throw new SeamlessError(
      'TEMPLATE_MISMATCH',
      `${vm} is from template ${description.templateId}, the sink server ${server.name} has ${server.templateIds.join(', ') || 'none'}`,
      { details: { templateId: description.templateId, templateIds: server.templateIds } },
    );
  }
  const [first] = scan.refusals;
  if (first) {
    throw new SeamlessError(
      'VM_UNPARKABLE',
      `${vm} can’t be parked: ${first.program}[${first.pid}]: ${first.reason}; ${first.remedy}`,
      { details: { refusals: scan.refusals } },
    );
  }
  if (scan.processes.length === 0) {
    throw new SeamlessError('VM_UNPARKABLE', `${vm} has no process that waits on the network`);
  }
  const room = SINK_ROOM_BYTES + IMAGE_COPIES * scan.imageBytes;
  if (server.memoryAvailableBytes < room) {
    throw new SeamlessError(
      'AGENT_REFUSED',
      `Expected ${mebibytes(room)} MiB of free memory on sink server ${server.name}, got ${mebibytes(server.memoryAvailableBytes)} MiB; free some, or name another sink server for ${vm}`,
    );
  }
  await forgetOldSink(ports, signal);
  const { templateId, network } = description;
  // The files that a profile opens go into the image: only those of programs that are there.
  const programsThere = new Set(scan.processes.map(({ program }) => program));
  const allow = profile.filter(({ program }) => programsThere.has(program));
  return { templateId, network, processes: scan.processes.length, allow, connections, programs };
}

/** The VM is awake, so an image that a sink still has is one that the VM has taken over. A sink with processes is odd. */
async function forgetOldSink(ports: Ports, signal: AbortSignal): Promise<void> {
  const sink = await ports.sinkAgent.call('status', { vm: ports.vm }, { signal });
  if (sink === null) return;
  if (['prepared', 'dumped', 'lost'].includes(sink.state)) return destroySink(ports, signal);
  throw new SeamlessError(
    'AGENT_REFUSED',
    `Expected no live sink of ${ports.vm}, got one that is ${sink.state}`,
  );
}

async function destroySink({ vm, sinkAgent }: Ports, signal: AbortSignal): Promise<void> {
  await sinkAgent.call('destroy', { vm, force: true }, { signal });
}

/** The agent does one thing after the other: a dump that is still under way has ended when it answers. */
async function restoreInVm({ vmAgent }: Ports, imageId: string, signal: AbortSignal): Promise<void> {
  const { state } = await vmAgent.call('image', { imageId }, { signal });
  if (state === null) return;
  if (state !== 'restored') await vmAgent.call('restore', { imageId }, { signal, timeoutMs: 60_000 });
  await vmAgent.call('discard', { imageId, force: true }, { signal });
}

/** Not abortable: once asked, the switch may have done it. So a failure is followed by a look. */
async function flip({ network }: Ports, state: ParkState): Promise<undefined> {
  const sinkPort = given(state.sinkPort, 'sinkPort');
  const listeners = given(state.listeners, 'listeners');
  try {
    await network.toSink(sinkPort, listeners, state.connections);
  } catch (cause) {
    const where = await network.leadsTo(sinkPort, listeners, state.connections).catch((unknown) => {
      throw inDoubt('The flows may lead to the sink or to the VM: the bridge does not answer', unknown);
    });
    if (where === 'vm') throw cause;
  }
  return undefined;
}

/** The VM is parked whether or not its memory comes free: stuck, it could not be woken any more. */
async function switchOff(
  { power }: Ports,
  { imageId, imageBytes }: ParkState,
  { wanted, log }: StepContext,
): Promise<Partial<ParkState>> {
  try {
    return await power.switchOff(imageId, wanted, imageBytes);
  } catch (error) {
    log.error('switchOff.failed', { error });
    return { off: false };
  }
}

function mebibytes(bytes: number): number {
  return Math.round(bytes / 2 ** 20);
}
