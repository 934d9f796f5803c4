/**
 * One VM's sink: owns its container, its processes and its images. Requests are served one after the other; a trigger is
 * taken note of at once. See lifecycle.ts for the states.
 */
import { join } from 'node:path';
import { asSeamlessError, SeamlessError } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import type { Manifest } from '../criu/manifest.ts';
import type { TlsMaterial } from '../wire/tls.ts';
import type { SinkState, SinkStatus } from './api.ts';
import { abandonDump, dumpImage, treesGone, undoDump } from './checkpoint.ts';
import { connectionPlan, ensureConnectionRules } from './connections.ts';
import { Container, type ContainerSurroundings } from './container.ts';
import { ImageExchange } from './image-exchange.ts';
import { Ledger, type LedgerOptions } from './ledger.ts';
import { admit, isInhabited, mayHoldOnlyCopy, type SinkRequest } from './lifecycle.ts';
import type { SinkRecord } from './record.ts';
import { filterLines } from './restore/answers.ts';
import { restoredTrees, restoreImage } from './restore/restore.ts';
import { setFrozen, treeProcesses } from './sandbox/cgroup.ts';
import { softenMemoryLimit } from './sandbox/limits.ts';
import { Silence } from './silence.ts';
import type { Trigger } from './trigger.ts';
import { Unclaimed } from './unclaimed.ts';
import { Watch, waitUntraced } from './watch.ts';

/** What a sink needs of its agent. */
export interface SinkSurroundings extends ContainerSurroundings, LedgerOptions {
  stateDir: string;
  filterBinary: string;
  /** From which on the memory of processes that wait is paged out; null: never. */
  pageOutAfterMs: number | null;
  tls: TlsMaterial;
}

export class Sink {
  readonly vm: string;
  readonly #around: SinkSurroundings;
  readonly #ledger: Ledger;
  readonly #container: Container;
  readonly #watch: Watch;
  readonly #exchange: ImageExchange;
  readonly #silence: Silence;
  readonly #unclaimed: Unclaimed;
  readonly #log: Log;
  /** Of the image that lives here, with the names that its externals have here; read off again after a restart. */
  #manifest: Manifest | null = null;
  #turn: Promise<unknown> = Promise.resolve();

  constructor(around: SinkSurroundings, record: SinkRecord) {
    const { vm } = record;
    const log = around.log.with({ vmId: vm });
    this.vm = vm;
    this.#around = around;
    this.#log = log;
    const changed = (status: SinkStatus) => {
      around.changed(status);
      this.#container.note(noteOf(status));
    };
    this.#ledger = new Ledger(record, { ...around, log, changed });
    this.#container = new Container(around, this.#ledger, () => void this.#inTurn(async () => {}));
    this.#watch = new Watch({
      binary: around.filterBinary,
      cgroup: () => this.#container.cgroup.processes,
      externalFile: join(around.stateDir, 'sinks', `${vm}.externals`),
      allowFile: join(around.stateDir, 'sinks', `${vm}.allowed`),
      ...(around.pageOutAfterMs === null ? {} : { restAfterMs: around.pageOutAfterMs }),
      log,
      onTrigger: (trigger) => this.#stopped(trigger, null),
      onLost: (reason) => this.#stopped(null, reason),
    });
    this.#silence = new Silence(() => this.record.init, around.launcher.exec);
    this.#unclaimed = new Unclaimed(around.filterBinary, () => this.#container.cgroup.processes, log);
    this.#exchange = new ImageExchange({ ...record, images: around.images, tls: around.tls, log });
  }

  get record(): Readonly<SinkRecord> {
    return this.#ledger.record;
  }

  status(): SinkStatus {
    return this.#ledger.status();
  }

  prepare(): Promise<SinkStatus> {
    return this.#inTurn(async () => {
      if (!this.#container.isAlive) await this.#container.ensure();
      return this.#ledger.become(this.record.state);
    });
  }

  receive(imageId: string): Promise<{ manifest: Manifest; bytes: number; ms: number }> {
    return this.#inTurn(async () => {
      const present = await this.#image(imageId);
      if (present) return { ...present, ms: 0 };
      const started = performance.now();
      const image = await this.#exchange.fetch(imageId);
      return { ...image, ms: performance.now() - started };
    });
  }

  restore(imageId: string): Promise<SinkStatus> {
    return this.#inTurn(async () => {
      if (this.#already('restore', imageId)) return this.status();
      const { images } = this.#around;
      const manifest = await images.read(this.vm, imageId);
      if (!manifest) throw this.#refusal(`it has no image ${imageId}; receive it first`);
      await this.#exchange.endAhead();
      this.#expectTemplate(manifest);
      const target = await this.#container.ensure();
      await this.#ledger.step('restoring', { stepImageId: imageId });
      try {
        await this.#meetConnections(target.init.pid, manifest);
        await restoreImage(target, manifest, images.path(this.vm, imageId), this.record.allow ?? []);
        this.#manifest = { ...manifest, trees: await restoredTrees(target, manifest) };
        // Only now: a segment that finds no socket yet is none of a stranger's.
        await Promise.all([this.#seize(this.#manifest), this.#silence.break(manifest)]);
        await softenMemoryLimit(target.cgroup, target.limits);
      } catch (cause) {
        await this.#end();
        throw restoreFailure(cause);
      }
      return this.#ledger.become('restored', { imageId, trigger: null, reason: null, ...NO_STEP });
    });
  }

  run(): Promise<SinkStatus> {
    return this.#inTurn(async () => {
      if (this.#already('run')) return this.status();
      const manifest = await this.#whole();
      if (!this.#watch.seized) await this.#seize(manifest);
      if (this.record.state === 'frozen') await this.#silence.break(manifest);
      this.#ledger.become('running', { trigger: null, reason: null, ran: true });
      await this.#ledger.written();
      try {
        await this.#watch.go();
      } catch (cause) {
        await this.#watch.stop();
        this.#stopped(null, asSeamlessError(cause).message);
        throw cause;
      }
      return this.status(); // perhaps frozen already: a trigger may come at once
    }).finally(() => void this.#inTurn(() => this.#lighten()));
  }

  /** Of an image that came from the VM, and is still there, the processes are proof enough. Not waited for by anybody. */
  async #lighten(): Promise<void> {
    const manifest = this.#manifest;
    if (this.record.state !== 'running' || !manifest || manifest.originId !== undefined) return;
    await this.#around.images
      .lighten(manifest)
      .catch((error: unknown) => this.#log.warn('image.lighten', { error }));
  }

  freeze(): Promise<SinkStatus> {
    return this.#inTurn(async () => {
      if (this.#already('freeze')) {
        if (this.record.state === 'frozen') await this.#watch.settled();
        return this.status();
      }
      await this.#watch.stop();
      this.#silence.fall();
      return this.record.state === 'frozen' ? this.status() : this.#ledger.become('frozen');
    });
  }

  /** @param andSend begins to send it as well, beside the answer; `send` waits for that */
  checkpoint(imageId: string, andSend = false): Promise<{ manifest: Manifest; bytes: number }> {
    return this.#inTurn(async () => {
      const { images } = this.#around;
      if (this.#already('checkpoint', imageId)) {
        const image = await this.#image(imageId);
        if (image) return image;
      }
      await this.#watch.settled();
      const present = await this.#whole();
      const target = await this.#container.target();
      const originId = present.originId ?? present.imageId;
      const manifest = { ...present, imageId, originId, criuVersion: target.criuVersion };
      await this.#ledger.step('dumping', { stepImageId: imageId });
      const [unclaimed] = await Promise.all([
        this.#unclaimed.collect(manifest, this.#watch.takeReturned()),
        images.begin(manifest),
      ]);
      try {
        await dumpImage(target, manifest, images.dumpingPath(this.vm, imageId), this.#silence.fall());
      } catch (cause) {
        this.#silence.forget(); // undone with the rest
        await this.#afterFailedDump(cause);
        throw cause;
      }
      const [device] = this.record.network.interfaces;
      const returned = this.#unclaimed.giveBack(target.init, device, unclaimed);
      await this.#dumped(imageId);
      if (andSend) this.#exchange.sendAhead(manifest);
      await returned;
      return { manifest, bytes: images.bytes(this.vm, imageId) };
    });
  }

  send(imageId: string): Promise<{ bytes: number; ms: number }> {
    return this.#inTurn(async () => {
      const started = performance.now();
      const bytes = (await this.#exchange.sentAhead(imageId)) ?? (await this.#sendOnce(imageId));
      this.#ledger.noteSent(imageId);
      return { bytes, ms: performance.now() - started };
    });
  }

  /** Not in turn with the others: it changes nothing of the sink, and a wake must not wait for it. */
  async rehearse(signal: AbortSignal): Promise<void> {
    const { imageId } = this.record;
    if (imageId === null) throw this.#refusal('it has no image');
    await this.#exchange.rehearse(imageId, signal);
  }

  /** Ends everything of the sink; the caller forgets it then. */
  destroy(force: boolean): Promise<void> {
    return this.#inTurn(async () => {
      const { state, ran, imageId, sent } = this.record;
      if (!force && mayHoldOnlyCopy(state, ran, imageId !== null && sent.includes(imageId))) {
        throw this.#refusal(
          `it is ${state} and may hold the only copy of its processes; \`force\` ends it all the same`,
        );
      }
      await this.#exchange.endAhead();
      await this.#end();
      await this.#around.images.removeAll(this.vm);
      await this.#ledger.forget();
      this.#exchange.close();
    });
  }

  /**
   * After a restart of the agent: finds out what became of a step that was under way, and goes on.
   * False when the sink is gone for good, and forgotten.
   */
  recover(): Promise<boolean> {
    return this.#inTurn(async () => {
      const { step, state } = this.record;
      const { isAlive } = this.#container;
      if (step === 'preparing' || (!isAlive && state === 'prepared' && step !== 'restoring')) {
        await this.#end();
        await this.#ledger.forget();
        return false;
      }
      this.#container.watch();
      if (step === 'restoring' || !isAlive) await this.#end();
      else if (isInhabited(state)) {
        await this.#takeOver(state).catch((cause: unknown) =>
          this.#stopped(null, `the new agent could not go on with it: ${asSeamlessError(cause).message}`),
        );
      }
      return true;
    });
  }

  /** The processes are there: frozen by the filter when it lost its agent, or being dumped. */
  async #takeOver(state: SinkState): Promise<void> {
    const { step, stepImageId } = this.record;
    const { cgroup } = this.#container;
    const untraced = () => waitUntraced(() => treeProcesses(cgroup));
    if (step === 'dumping' && stepImageId !== null) {
      const manifest = await this.#storedManifest();
      const close = await abandonDump(manifest, this.#around.images.dumpingPath(this.vm, stepImageId));
      await untraced().finally(close);
      if ((await treesGone(cgroup, manifest)).length === manifest.trees.length) {
        await this.#dumped(stepImageId);
        return;
      }
    } else {
      await setFrozen(cgroup.processes, true);
      await untraced();
    }
    const manifest = await this.#whole();
    if (state === 'frozen') return;
    await this.#seize(manifest);
    if (state === 'running') {
      await this.#silence.break(manifest); // the trigger of the agent before may have been its last deed
      await this.#watch.go();
    }
    this.#log.info('sink.takenOver', { state });
  }

  /** What lives here, all of it: what a failed dump took away is brought back first. */
  async #whole(): Promise<Manifest> {
    const { step, stepImageId } = this.record;
    const target = await this.#container.target();
    if (step === 'dumping' && stepImageId !== null) {
      const { images } = this.#around;
      const begun = (await images.readDumping(this.vm, stepImageId)) ?? (await this.#storedManifest());
      await undoDump(target, begun, images.dumpingPath(this.vm, stepImageId));
      this.#manifest = null;
      await this.#ledger.step(null);
    }
    if (!this.#manifest) {
      const stored = await this.#storedManifest();
      this.#manifest = { ...stored, trees: await restoredTrees(target, stored) };
    }
    return this.#manifest;
  }

  #seize(manifest: Manifest): Promise<void> {
    const allow = filterLines(this.record.allow ?? [], manifest.files);
    return this.#watch.seize(manifest.trees, connectionPlan(this.record.connections, manifest), allow);
  }

  async #meetConnections(pid: number, manifest: Manifest): Promise<void> {
    const { connections, network } = this.record;
    const [device] = network.interfaces;
    if (device) await ensureConnectionRules(pid, device.name, connectionPlan(connections, manifest));
  }

  /** The manifest of the image that lives here. */
  async #storedManifest(): Promise<Manifest> {
    const { imageId } = this.record;
    const manifest = imageId === null ? null : await this.#around.images.read(this.vm, imageId);
    if (!manifest) throw this.#refusal(`its image ${imageId} is gone`);
    return manifest;
  }

  /** An image that is here, with the bytes of its files. */
  async #image(imageId: string): Promise<{ manifest: Manifest; bytes: number } | null> {
    const { images } = this.#around;
    const manifest = await images.read(this.vm, imageId);
    return manifest && { manifest, bytes: images.bytes(this.vm, imageId) };
  }

  async #sendOnce(imageId: string): Promise<number> {
    const image = await this.#image(imageId);
    if (!image) throw this.#refusal(`it has no image ${imageId}`);
    const isThere = this.record.sent.includes(imageId) && (await this.#exchange.isThere(imageId));
    return isThere ? image.bytes : this.#exchange.send(image.manifest);
  }

  async #dumped(imageId: string): Promise<void> {
    await this.#around.images.complete(this.vm, imageId);
    this.#ledger.become('dumped', { imageId, ...NO_STEP });
  }

  /** All is frozen and alive again; or a part is only in the new image, and the step stays open for `#whole` to try again. */
  async #afterFailedDump(cause: unknown): Promise<void> {
    this.#manifest = null;
    if (asSeamlessError(cause).code === 'CHECKPOINT_FAILED') return this.#ledger.step(null);
    const reason = `a part of its processes is only in image ${this.record.stepImageId}: ${asSeamlessError(cause).message}`;
    this.#ledger.become('frozen', { reason });
  }

  /** Ends the container and all processes in it. Images stay. */
  async #end(): Promise<void> {
    await this.#watch.stop().catch((error: unknown) => this.#log.warn('sink.stop', { error }));
    await this.#container.end();
    this.#silence.forget();
    this.#manifest = null;
  }

  /** The container ended, and nobody here has asked for it: removed by hand, killed, or for want of memory. */
  async #noticeLoss(): Promise<void> {
    const { init, state } = this.record;
    if (init === null || !isInhabited(state) || (await this.#container.isInhabited())) return;
    const reason = `its container ended while it was ${state}; only the image that it came from is left`;
    this.#log.error('sink.lost', { state, reason });
    // What its network still had would answer for sockets that are gone.
    await this.#end();
    this.#ledger.become('lost', { trigger: null, reason, ...NO_STEP });
  }

  /** Something stopped the processes without being asked. */
  #stopped(trigger: Trigger | null, reason: string | null): void {
    if (trigger === null) this.#log.error('sink.stopped', { reason });
    const { state } = this.record;
    this.#ledger.become(state === 'running' ? 'frozen' : state, { trigger, reason });
    this.#silence.fall();
  }

  #already(request: SinkRequest, imageId?: string): boolean {
    const { state } = this.record;
    const admission = admit(request, state, imageId === undefined || imageId === this.record.imageId);
    if (typeof admission === 'object') throw this.#refusal(admission.refused);
    return admission === 'already';
  }

  #expectTemplate({ templateId }: Manifest): void {
    if (templateId === this.record.templateId) return;
    const message = `Expected an image of template ${this.record.templateId}, got one of ${templateId}`;
    throw new SeamlessError('TEMPLATE_MISMATCH', message);
  }

  #refusal(reason: string): SeamlessError {
    return new SeamlessError('AGENT_REFUSED', `The sink of ${this.vm}: ${reason}`);
  }

  /** One request after the other; what one has changed is on record before it is answered. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn
      .then(() => this.#noticeLoss())
      .then(work)
      .finally(() => this.#ledger.written());
    this.#turn = result.catch(() => {});
    return result;
  }
}

/** For the container's own log. */
function noteOf({ state, imageId, trigger, reason }: SinkStatus): string {
  const why = trigger
    ? `: ${trigger.program}[${trigger.pid}]: ${trigger.detail}`
    : reason
      ? `: ${reason}`
      : '';
  return `${new Date().toISOString()} ${state}${imageId === null ? '' : ` (image ${imageId})`}${why}`;
}

const NO_STEP = { step: null, stepImageId: null } as const;

/** What the orchestrator acts upon: nothing of the image runs here. */
function restoreFailure(cause: unknown): SeamlessError {
  const error = asSeamlessError(cause);
  if (error.code === 'RESTORE_FAILED' || error.code === 'TEMPLATE_MISMATCH') return error;
  return new SeamlessError('RESTORE_FAILED', error.message, { cause, details: error.details });
}
