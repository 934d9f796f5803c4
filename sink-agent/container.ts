/** A sink's container over its life: made when it is wanted and not there, found again, ended. */
import { SeamlessError } from '../common/errors.ts';
import type { Launcher } from '../criu/launcher.ts';
import type { ImageStore } from './images.ts';
import type { Ledger } from './ledger.ts';
import { cgroupName, portName } from './names.ts';
import type { RestoreTarget } from './restore/restore.ts';
import type { SinkRuntime } from './runtime/runtime.ts';
import { cgroupAt, isPopulated, type SinkCgroup, sinkCgroup, watchPopulation } from './sandbox/cgroup.ts';
import { isAlive } from './sandbox/process.ts';
import type { TemplateStore } from './templates.ts';

export interface ContainerSurroundings {
  templates: TemplateStore;
  images: ImageStore;
  runtime: SinkRuntime;
  launcher: Launcher;
  cgroupRoot: string;
}

export class Container {
  readonly #around: ContainerSurroundings;
  readonly #ledger: Ledger;
  readonly #ended: () => void;
  #unwatch: () => void = () => {};

  /** @param ended it may have ended without having been asked to. */
  constructor(around: ContainerSurroundings, ledger: Ledger, ended: () => void) {
    this.#around = around;
    this.#ledger = ledger;
    this.#ended = ended;
  }

  /** Where its processes are: in the runtime's own cgroup where it has one. */
  get cgroup(): SinkCgroup {
    const { vm, cgroup } = this.#ledger.record;
    return cgroup === undefined ? this.#ownCgroup(vm) : cgroupAt(cgroup);
  }

  get isAlive(): boolean {
    const { init } = this.#ledger.record;
    return init !== null && isAlive(init);
  }

  /** Whether its PID 1 is there: one that is about to end has left its cgroup a moment before it looks so. */
  async isInhabited(): Promise<boolean> {
    return this.isAlive && (await isPopulated(this.cgroup.helper).catch(() => false));
  }

  /** The container, made now when there is none. `TEMPLATE_MISMATCH` without the VM's template. */
  async ensure(): Promise<RestoreTarget> {
    if (this.isAlive) return this.target();
    const { vm, templateId, network, state } = this.#ledger.record;
    const { templates, images, runtime } = this.#around;
    const template = await templates.find(templateId);
    await templates.criuVersion(template);
    // An unfinished container of a sink with nothing else in it is removed along with the sink.
    await this.#ledger.step(state === 'prepared' ? 'preparing' : null, { init: null });
    await this.#remove();
    const { init, cgroup } = await runtime.create({
      vm,
      template,
      cgroup: this.#ownCgroup(vm),
      port: portName(vm),
      images: images.folderOf(vm),
      network,
    });
    await this.#ledger.step(null, { init, cgroup: cgroup.path });
    this.watch();
    return this.target();
  }

  async target(): Promise<RestoreTarget> {
    const { init, templateId, vm } = this.#ledger.record;
    if (!init) throw new SeamlessError('AGENT_REFUSED', `The sink of ${vm}: its container is gone`);
    const { templates, runtime, launcher } = this.#around;
    return {
      init,
      cgroup: this.cgroup,
      limits: await runtime.limits(init),
      criuVersion: await templates.criuVersion(await templates.find(templateId)),
      launcher,
    };
  }

  /** From now on its end is noticed; called for a container that an earlier agent has made. */
  watch(): void {
    this.#unwatch();
    if (this.isAlive) this.#unwatch = watchPopulation(this.cgroup.helper, this.#ended);
  }

  /** A line for its own log. */
  note(line: string): void {
    const { init } = this.#ledger.record;
    if (init) this.#around.runtime.note(init, line);
  }

  /** Ends it and all processes in it. Images stay. */
  async end(): Promise<void> {
    await this.#remove();
    await this.#ledger.step(null, { init: null });
  }

  #remove(): Promise<void> {
    this.#unwatch();
    const { vm } = this.#ledger.record;
    return this.#around.runtime.remove({ vm, cgroup: this.cgroup, port: portName(vm) });
  }

  #ownCgroup(vm: string): SinkCgroup {
    return sinkCgroup(this.#around.cgroupRoot, cgroupName(vm));
  }
}
