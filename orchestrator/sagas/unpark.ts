/**
 * Unpark: the VM is switched on, its gateway processes come back from the sink with their present state.
 *
 *   {resume · freeze} → flip → checkpoint → {send · clock} → ▌restore▐ → release → tidy
 *
 * `resume` only starts the VM (milliseconds); the guest pages its memory in while the sink is dumped.
 * The flows flip only when the sink is frozen, and it is dumped only when nothing can reach its stack any more.
 * Packets for the VM wait at its port, where the hold has been armed since the park.
 *
 * A sink that was lost, killed behind our back, has nothing to dump: the VM restores the park's image, which is the last one. What was
 * promised from the sink since then is gone, and its clients' connections may be; nothing better is left.
 *
 * A crash goes forward: somebody wants the VM, each step up to the pivot leaves the one good copy where the next
 * one looks for it (the frozen sink, then its image), and going back would take longer than going on.
 * A failure before the pivot goes back: the sink is restored from the image of the way back, gets the packets
 * that waited, and runs; then the VM is switched off again. It is parked, as it was.
 */
import { asSeamlessError, SeamlessError } from '../../common/errors.ts';
import type { Listener } from '../../criu/manifest.ts';
import type { ConnectionPolicy, SinkStatus } from '../../sink-agent/api.ts';
import { inDoubt, type SagaDefinition, type StepContext } from '../saga/definition.ts';
import type { Wake } from '../vm/state.ts';
import type { Ports } from './ports.ts';

export interface UnparkState {
  /** Of the image of the way back. */
  imageId: string;
  /** Of the park's image, which the VM still has. */
  parkImageId: string;
  sinkPort: string;
  listeners: Listener[];
  connections?: ConnectionPolicy;
  wake: Wake;
  /** The sink is lost: `imageId` is the park's, and there is no going back. */
  lost?: true;
  imageBytes?: number;
  /** What of it went over the wire: the VM has the rest. */
  sentBytes?: number;
  /** Of the processes that come back, by which the VM's work after the wake is told apart. */
  gatewayPids?: number[];
  /** What the sink sent while it was parked, and the VM before the wake: what a look afterwards is compared with. */
  sinkSentPackets?: number;
  sinkSentBytes?: number;
  vmSentBytes?: number;
  /** What the sink still sent between the wake and the flip. */
  sinkAnswers?: number;
  /** What waited for the VM, and for how long the first of it. */
  heldPackets?: number;
  heldConnections?: number;
  firstHeldMs?: number;
  /** The sink’s port, where it could not be unplugged: it is when its host is back, also by the next service. */
  portLeft?: string;
}

export function unparkSaga(ports: Ports): SagaDefinition<UnparkState> {
  const { vmAgent, network, power } = ports;
  return {
    name: 'unpark',
    afterCrash: 'forward',
    persistMs: 60_000,
    steps: [
      [
        {
          name: 'resume',
          timeoutMs: 300_000, // from a file it is all of its memory
          async do() {
            await power.switchOn();
            return undefined;
          },
          // Undone last, when the sink answers again. A VM that can’t be switched off stays on: it costs memory only.
          undo: async ({ parkImageId }, { wanted, log }) => {
            await power
              .switchOff(parkImageId, wanted)
              .catch((error) => log.warn('switchOff.failed', { error }));
          },
        },
        {
          name: 'freeze',
          attempts: 3,
          do: (state, { signal }) => freeze(ports, state, signal),
          undo: async ({ lost }, { signal }) => {
            if (!lost) await runSink(ports, signal);
          },
        },
      ],
      {
        name: 'flip',
        attempts: 3,
        do: (state) => flip(ports, state),
        // The sockets are back (see below), so its stack may have the packets; its processes are still stopped.
        // Nobody is there any more where the sink was: what comes waits for the next attempt.
        undo: async ({ sinkPort, listeners, connections, lost }) => {
          if (lost) return;
          await network.toSink(sinkPort, listeners, connections);
          await network.divert();
        },
      },
      {
        name: 'checkpoint',
        attempts: 2,
        timeoutMs: 60_000,
        do: async ({ imageId, lost }, { signal }) => (lost ? undefined : checkpoint(ports, imageId, signal)),
        // The sink has begun to send the image by itself: the VM forgets it, when it serves here again.
        undo: async (state, context) => {
          await restoreInSink(ports, context.signal);
          await forgetInVm(ports)(state, context);
        },
      },
      [
        {
          name: 'send',
          attempts: 3,
          timeoutMs: 60_000,
          do: async ({ imageId, lost }, { signal }) => (lost ? undefined : send(ports, imageId, signal)),
          undo: null, // `checkpoint` has it forgotten
        },
        {
          name: 'clock',
          attempts: 3,
          async do(_state, { signal }) {
            await vmAgent.call('setClock', { epochMs: Date.now() }, { signal, timeoutMs: 20_000 });
            return undefined;
          },
          undo: null, // A right clock harms nobody.
        },
      ],
      {
        name: 'restore',
        pivot: true,
        attempts: 2,
        timeoutMs: 90_000,
        do: ({ imageId }, { signal }) => restoreInVm(ports, imageId, signal),
        undo: null, // It failed for certain, or this is not reached.
      },
      {
        name: 'release',
        async do() {
          const released = await network.release();
          if (released === null) return undefined; // An attempt before this one has seen what waited.
          const { packets, connections, oldestMs } = released;
          return { heldPackets: packets, heldConnections: connections, firstHeldMs: oldestMs };
        },
        undo: null,
      },
      {
        name: 'tidy',
        do: (state, context) => tidy(ports, state, context),
        undo: null,
      },
    ],
  };
}

async function sinkOf({ vm, sinkAgent }: Ports, signal: AbortSignal): Promise<SinkStatus> {
  const sink = await sinkAgent.call('status', { vm }, { signal });
  if (sink) return sink;
  throw new SeamlessError('AGENT_REFUSED', `Expected a sink of ${vm}, got none: its processes are gone`);
}

/** After a failed or interrupted unpark the processes may be an image already: then that is the one to bring back. */
async function freeze(ports: Ports, state: UnparkState, signal: AbortSignal): Promise<Partial<UnparkState>> {
  const [sink, sent] = await Promise.all([frozenSink(ports, signal), sentSoFar(ports, state)]);
  if (sink.state === 'frozen') return sent.sink ? { sinkSentPackets: sent.sink.packets } : {};
  if (sink.state === 'dumped') return { imageId: sink.imageId ?? state.imageId };
  if (sink.state === 'lost') return { imageId: state.parkImageId, lost: true };
  throw new SeamlessError(
    'AGENT_REFUSED',
    `Expected processes in the sink of ${ports.vm}, got it ${sink.state}`,
  );
}

/** The counters are read beside the flip, not before it: nothing waits for them. */
async function flip(ports: Ports, state: UnparkState): Promise<Partial<UnparkState>> {
  const [{ sink, vm }] = await Promise.all([
    sentSoFar(ports, state),
    ports.network.toVm(state.sinkPort),
  ] as const);
  const { sinkSentPackets: before } = state;
  return {
    ...(sink ? { sinkSentBytes: sink.bytes } : {}),
    ...(sink && before !== undefined ? { sinkAnswers: Math.max(0, sink.packets - before) } : {}),
    ...(vm ? { vmSentBytes: vm.bytes } : {}),
  };
}

/** Only to tell afterwards what happened: no reason to fail. */
function sentSoFar({ network }: Ports, { sinkPort }: UnparkState) {
  return network.sent(sinkPort).catch(() => ({ vm: null, sink: null }));
}

/** `status` answers at once, `freeze` after a dump that may be under way; one that has no processes left refuses it. */
async function frozenSink(ports: Ports, signal: AbortSignal): Promise<SinkStatus> {
  try {
    return await ports.sinkAgent.call('freeze', { vm: ports.vm }, { signal });
  } catch (thrown) {
    if (asSeamlessError(thrown).code !== 'AGENT_REFUSED') throw thrown;
    return sinkOf(ports, signal);
  }
}

async function checkpoint(ports: Ports, imageId: string, signal: AbortSignal): Promise<Partial<UnparkState>> {
  const call = { signal, timeoutMs: 60_000 };
  const request = { vm: ports.vm, imageId, andSend: true };
  const { bytes, manifest } = await ports.sinkAgent.call('checkpoint', request, call);
  const gatewayPids = manifest.trees.flatMap(({ processes }) => processes.map(({ pid }) => pid));
  return { imageBytes: bytes, gatewayPids };
}

async function restoreInSink(ports: Ports, signal: AbortSignal): Promise<void> {
  const sink = await frozenSink(ports, signal);
  if (sink.state !== 'dumped' || sink.imageId === null) return;
  const { vm, sinkAgent } = ports;
  await sinkAgent.call('restore', { vm, imageId: sink.imageId }, { signal, timeoutMs: 60_000 });
}

async function runSink(ports: Ports, signal: AbortSignal): Promise<void> {
  const sink = await sinkOf(ports, signal);
  if (sink.state !== 'running') await ports.sinkAgent.call('run', { vm: ports.vm }, { signal });
}

/** An attempt that was interrupted may have sent it, and the VM’s agent may even have restored it: then it refuses. */
async function send(ports: Ports, imageId: string, signal: AbortSignal): Promise<Partial<UnparkState>> {
  const call = { signal, timeoutMs: 60_000 };
  try {
    const { bytes } = await ports.sinkAgent.call('send', { vm: ports.vm, imageId }, call);
    return { sentBytes: bytes };
  } catch (cause) {
    const { state } = await ports.vmAgent.call('image', { imageId }, call);
    if (state === null) throw cause;
    return {};
  }
}

/** The next attempt has an image of its own, so this copy only takes room: no reason to be stuck. */
function forgetInVm({ vmAgent }: Ports) {
  return async ({ imageId, lost }: UnparkState, { signal, log }: StepContext) => {
    if (lost) return; // it is the last one
    await vmAgent
      .call('discard', { imageId, force: true }, { signal, timeoutMs: 5000 })
      .catch((error) => log.warn('discard.failed', { error }));
  };
}

/** The agent confirms that the processes run. A call that fails is followed by a look, for as long as it takes. */
async function restoreInVm({ vmAgent }: Ports, imageId: string, signal: AbortSignal): Promise<undefined> {
  const call = { signal, timeoutMs: 60_000 };
  try {
    await vmAgent.call('restore', { imageId }, call);
  } catch (cause) {
    const { state } = await vmAgent.call('image', { imageId }, call).catch((unknown) => {
      throw inDoubt('The processes may run in the VM or not: its agent does not answer', unknown);
    });
    if (state !== 'restored') throw cause;
  }
  return undefined;
}

/** The VM is live and serves: what can’t be tidied now is forgotten at the next park, and no reason to be stuck. */
async function tidy(
  ports: Ports,
  state: UnparkState,
  { signal, log }: StepContext,
): Promise<Partial<UnparkState> | undefined> {
  const { vm, vmAgent, sinkAgent, network, power } = ports;
  const call = { signal, timeoutMs: 10_000 };
  const left = (what: string) => (error: unknown) => log.warn('tidy.left', { what, error });
  let portLeft: string | undefined;
  const unplug = () =>
    network.unplug(state.sinkPort).catch((error) => {
      portLeft = state.sinkPort;
      left('the sink’s port')(error);
    });
  await Promise.all([
    sinkAgent.call('destroy', { vm, force: true }, call).then(unplug, left('the sink')),
    vmAgent.call('discard', { imageId: state.imageId, force: true }, call).catch(left('the image')),
    vmAgent
      .call('discard', { imageId: state.parkImageId, force: true }, call)
      .catch(left('the park’s image')),
    power.woken(),
  ]);
  return portLeft === undefined ? undefined : { portLeft };
}
