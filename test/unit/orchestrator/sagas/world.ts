/**
 * A model of what park and unpark act on: one VM, its sink, the flows, the packet buffer, and clients that never stop
 * sending. It stands in for the ports in the generic suite alone, and checks the invariants at every step:
 *
 * - at most one copy of the processes can run, and there is always one that is up to date, be it an image;
 * - no packet reaches a stack that has no sockets, none is lost.
 *
 * `version` counts what the clients have seen acknowledged: each packet that a stack takes makes every other copy stale.
 */
import { SeamlessError } from '../../../../common/errors.ts';
import type { Listener } from '../../../../criu/manifest.ts';
import type { Agent, Held, HeldPacket, Ports, Released } from '../../../../orchestrator/sagas/ports.ts';
import type { SinkAgentApi, SinkState } from '../../../../sink-agent/api.ts';
import type { ImageState, VmAgentApi } from '../../../../vm-agent/api.ts';

interface Copy {
  version: number;
}
interface SinkCopy extends Copy {
  state: SinkState;
  imageId: string | null;
  /** The image in its store: of the way here, or of the way back. */
  image: Copy | null;
}

export const LISTENERS: Listener[] = [
  { protocol: 'tcp', address: '0.0.0.0', port: 22, pid: 400, program: 'sshd' },
];

const MANIFEST = { trees: [{ processes: [{ pid: 400 }] }] };

/** Connection requests that wait. */
export function heldOf(packets: number): Held {
  const first: HeldPacket = {
    protocol: 'tcp',
    syn: true,
    source: '10.77.0.2',
    sourcePort: 51312,
    destination: '10.77.0.11',
    port: 22,
  };
  return { packets, connections: packets, first: packets > 0 ? first : null };
}

export class World {
  version = 0;
  packets = 0;
  taken = 0;
  vm: Copy | null = { version: 0 };
  /** `dead`: its QEMU has gone. */
  power: 'on' | 'off' | 'dead' = 'on';
  /** What has been sent into the network. */
  sent = { vm: { packets: 0, bytes: 0 }, sink: { packets: 0, bytes: 0 } };
  images = new Map<string, Copy & { state: ImageState }>();
  sink: SinkCopy | null = null;
  flows: 'vm' | 'sink' = 'vm';
  plugged: string | null = null;
  /** Whether the sink's port lets anything out. */
  open = false;
  armed = false;
  held = 0;
  /** Connection requests that wait: of the park, and since. */
  heldAfterDivert = 0;
  heldSyns = 0;
  calls: string[] = [];
  /** A call waits for what this gives. */
  gate: (name: string) => Promise<void> | undefined = () => undefined;
  /** Called before each port call with its number and name, and after its effect; throws what the call shall throw. */
  fault: (call: number, name: string, when: 'before' | 'after') => void = () => {};

  /** Ports into this world. */
  ports(): Ports {
    const call = <T>(name: string, effect: () => T): Promise<T> => this.#call(name, effect);
    const agent = <Api extends { [M in keyof Api]: { params: object; result: unknown } }>(
      who: string,
      answer: (method: keyof Api, params: Record<string, string>) => unknown,
    ): Agent<Api> => ({
      call: (method, params) =>
        call(`${who}.${method}`, () => answer(method, params as Record<string, string>)) as never,
    });
    return {
      vm: 'vm1',
      sinkServer: 'sink1',
      vmAgentAddress: { address: '10.0.0.1', port: 1, serverName: 'vm-agent:vm1' },
      profile: () => [],
      settings: () => ({ connections: { acceptPorts: [], healthChecks: [] }, programs: [] }),
      vmAgent: agent<VmAgentApi>('vmAgent', (method, params) => this.#vmAgent(method, params)),
      sinkAgent: agent<SinkAgentApi>('sinkAgent', (method, params) => this.#sinkAgent(method, params)),
      network: {
        reachable: () => call('reachable', () => {}),
        hold: () => call('hold', () => void (this.armed = true)),
        release: () => call('release', () => this.#release()),
        divert: () => call('divert', () => this.#divert()),
        plug: (port) => call('plug', () => void (this.plugged = port)),
        probe: () => call('probe', () => {}),
        unplug: () => call('unplug', () => void (this.plugged = null)),
        shut: () => call('shut', () => void (this.open = false)),
        toSink: async () => {
          await call('toSink (its port opens)', () => void (this.open = true));
          await call('toSink', () => void (this.flows = 'sink'));
        },
        toVm: async () => {
          await call('toVm', () => void (this.flows = 'vm'));
          await call('toVm (the sink’s port closes)', () => void (this.open = false));
        },
        leadsTo: () => call('leadsTo', () => this.flows),
        held: () => call('held', () => heldOf(this.held + this.heldSyns)),
        sent: async () => structuredClone(this.sent),
      },
      power: {
        switchOff: (_imageId, wanted) =>
          call('switchOff', () => {
            this.#expectHypervisor();
            this.power = wanted.aborted ? 'on' : 'off';
            return { off: !wanted.aborted, method: 'ram', residentBeforeBytes: 100, residentAfterBytes: 10 };
          }),
        switchOn: () =>
          call('switchOn', () => {
            this.#expectHypervisor();
            this.power = 'on';
          }),
        woken: async () => {},
      },
    };
  }

  /** Nothing is under way: packets have all been taken, and one up-to-date copy runs where the flows lead. */
  assertAtRest(where: 'awake' | 'parked'): void {
    this.#arrive();
    expectThat(this.held === 0, `expected no packet to wait, got ${this.held}`);
    expectThat(
      this.taken === this.packets,
      `expected ${this.packets} packets to be taken, got ${this.taken}`,
    );
    const owner = where === 'awake' ? this.vm : this.sink;
    expectThat(owner?.version === this.version, `expected an up-to-date copy where it is ${where}`);
    expectThat(this.flows === (where === 'awake' ? 'vm' : 'sink'), `expected flows for ${where}`);
    if (where === 'parked') expectThat(this.sink?.state === 'running', 'expected the sink to run');
    if (where === 'awake')
      expectThat(this.power === 'on' && !this.armed, 'expected the VM on, the buffer down');
  }

  /** For whatever is neither: nothing is lost. */
  assertNothingLost(): void {
    this.#check('the end');
  }

  async #call<T>(name: string, effect: () => T): Promise<T> {
    const number = this.calls.push(name) - 1;
    await this.gate(name);
    this.fault(number, name, 'before');
    this.#arrive();
    const result = effect();
    this.#check(name);
    this.#arrive();
    this.fault(number, name, 'after');
    return result;
  }

  /** A packet of a client comes, wherever things stand. */
  #arrive(): void {
    this.packets += 1;
    if (this.flows === 'vm' && this.armed) this.held += 1;
    else this.#take(this.flows);
    this.#check('a packet');
  }

  #take(where: 'vm' | 'sink'): void {
    const there =
      where === 'vm'
        ? this.vm !== null && this.power === 'on'
        : this.plugged !== null && hasSockets(this.sink);
    expectThat(there, `expected sockets in the ${where}, got an RST`);
    this.version += 1;
    this.taken += 1;
    const copy = where === 'vm' ? this.vm : this.sink;
    if (copy) copy.version = this.version;
  }

  /** QEMU ends, and the guest’s memory with it. */
  loseHypervisor(): void {
    this.power = 'dead';
    this.vm = null;
    this.images.clear();
  }

  #expectHypervisor(): void {
    if (this.power === 'dead')
      throw new SeamlessError('HOST_UNREACHABLE', 'QMP of vm1: connect ECONNREFUSED');
  }

  #release(): Released | null {
    if (!this.armed) return null;
    const packets = this.held;
    for (; this.held > 0; this.held -= 1) this.#take('vm');
    this.armed = false;
    return { packets, connections: this.heldSyns, oldestMs: packets > 0 ? 7 : 0 };
  }

  #divert(): Held {
    for (; this.held > 0; this.held -= 1) this.#take('sink');
    return heldOf(this.heldAfterDivert);
  }

  #vmAgent(method: keyof VmAgentApi, { imageId = '' }: Record<string, string>): unknown {
    expectUp(this.power === 'on');
    const image = this.images.get(imageId);
    switch (method) {
      case 'describe':
        return { vm: 'vm1', templateId: 't1', bootId: 'b', criuVersion: '4', network: {} };
      case 'scan':
        return { processes: [{ program: 'sshd' }], listeners: LISTENERS, refusals: [], imageBytes: 0 };
      case 'checkpoint':
        if (!image && this.vm) {
          this.images.set(imageId, { state: 'dumped', version: this.vm.version });
          this.vm = null;
        }
        return { manifest: { listeners: LISTENERS }, bytes: 1 };
      case 'restore':
        if (!image) throw new SeamlessError('RESTORE_FAILED', `no image ${imageId}`);
        if (image.state !== 'restored') {
          expectThat(this.vm === null, 'expected no processes in the VM');
          this.vm = { version: image.version };
          image.state = 'restored';
        }
        return { processes: 1 };
      case 'image':
        return { state: image?.state ?? null };
      case 'discard':
        this.images.delete(imageId);
        return {};
      case 'setClock':
        return { steppedMs: 0 };
      default:
        throw new Error(`not modelled: ${method}`);
    }
  }

  #sinkAgent(method: keyof SinkAgentApi, { imageId = '' }: Record<string, string>): unknown {
    const { sink } = this;
    const status = () =>
      this.sink
        ? { vm: 'vm1', state: this.sink.state, port: 'p', imageId: this.sink.imageId, trigger: null }
        : null;
    const refuse = () => {
      throw new SeamlessError('AGENT_REFUSED', `${method} of a sink that is ${sink?.state ?? 'not there'}`);
    };
    switch (method) {
      case 'describe':
        return {
          name: 'sink1',
          templateIds: ['t1'],
          criuVersion: '4',
          memoryAvailableBytes: 2 ** 30,
          sinks: [],
        };
      case 'status':
        return status();
      case 'prepare':
        this.sink ??= { state: 'prepared', imageId: null, image: null, version: -1 };
        return status();
      case 'receive': {
        const image = this.images.get(imageId);
        if (!sink || !image) return refuse();
        sink.image = { version: image.version };
        return { manifest: {}, bytes: 1, ms: 1 };
      }
      case 'restore':
        if (!sink?.image || sink.state === 'running' || sink.state === 'frozen') return refuse();
        if (sink.state !== 'restored')
          Object.assign(sink, { state: 'restored', imageId, version: sink.image.version });
        return status();
      case 'run':
        if (!sink || ['prepared', 'dumped', 'lost'].includes(sink.state)) return refuse();
        sink.state = 'running';
        return status();
      case 'freeze':
        if (!sink || sink.state === 'prepared' || sink.state === 'dumped') return refuse();
        if (sink.state !== 'lost') sink.state = 'frozen';
        return status();
      case 'checkpoint':
        if (sink?.state === 'dumped' && sink.imageId === imageId) return { manifest: MANIFEST, bytes: 1 };
        if (sink?.state !== 'frozen') return refuse();
        Object.assign(sink, { state: 'dumped', imageId, image: { version: sink.version } });
        // It has begun to send it, and whether that gets anywhere nobody has asked.
        if (this.power === 'on') this.images.set(imageId, { state: 'received', version: sink.version });
        return { manifest: MANIFEST, bytes: 1 };
      case 'send':
        if (sink?.state !== 'dumped' || !sink.image) return refuse();
        expectUp(this.power === 'on');
        if (this.images.get(imageId)?.state === 'restored') return refuse();
        this.images.set(imageId, { state: 'received', version: sink.image.version });
        return { bytes: 1, ms: 1 };
      case 'destroy':
        expectThat(
          !this.open || !hasSockets(sink),
          'expected a closed port when the sink ends, got a FIN let out',
        );
        this.sink = null;
        return {};
      default:
        throw new Error(`not modelled: ${method}`);
    }
  }

  #check(what: string): void {
    const vmRuns = this.vm !== null && this.power === 'on';
    expectThat(
      !(vmRuns && this.sink?.state === 'running'),
      `expected one runnable copy after ${what}, got two`,
    );
    const inSink = hasSockets(this.sink);
    const versions = [
      ...(this.vm ? [this.vm.version] : []),
      ...(inSink ? [this.sink?.version] : []),
      ...(this.sink?.image ? [this.sink.image.version] : []),
      ...[...this.images.values()].map(({ version }) => version),
    ];
    expectThat(versions.includes(this.version), `expected an up-to-date copy after ${what}, got none`);
    if (vmRuns) expectThat(this.vm?.version === this.version, `expected the VM up to date after ${what}`);
    if (this.sink?.state === 'running') {
      expectThat(this.sink.version === this.version, `expected the sink up to date after ${what}`);
    }
  }
}

/** A broken invariant: no saga may take it for an ordinary failure. */
export class Violation extends Error {}

/** A port call of a process that has died. */
export class Crash extends Error {}

const violations: Violation[] = [];

/** The violations since the last call: a saga may have caught them. */
export function takeViolations(): string[] {
  return violations.splice(0).map(({ message }) => message);
}

function expectThat(so: boolean, message: string): void {
  if (so) return;
  const violation = new Violation(message);
  violations.push(violation);
  throw violation;
}

function hasSockets(sink: World['sink']): boolean {
  return ['restored', 'running', 'frozen'].includes(sink?.state ?? '');
}

function expectUp(up: boolean): void {
  if (!up) throw new SeamlessError('AGENT_UNREACHABLE', 'The VM is paused');
}

/** A VM that has been parked as image `p1`. */
export function parkedWorld(): World {
  const world = new World();
  Object.assign(world, {
    vm: null,
    power: 'off',
    flows: 'sink',
    plugged: 'p',
    open: true,
    armed: true,
    images: new Map([['p1', { state: 'dumped', version: 0 }]]),
    sink: { state: 'running', imageId: 'p1', image: { version: 0 }, version: 0 },
  });
  return world;
}

/** A VM whose sink was killed from outside, and whose packets wait: the image of the park is the only copy. */
export function worldOfLostSink(): World {
  const world = parkedWorld();
  Object.assign(world, {
    flows: 'vm',
    plugged: null,
    sink: { state: 'lost', imageId: 'p1', image: null, version: -1 },
  });
  return world;
}
