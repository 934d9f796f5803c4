/**
 * One VM's sink: owns its container, its processes and its images. Requests are served one after the other; a trigger is
 * taken note of at once. See lifecycle.ts for the states.
 */
import { join } from 'node:path';
import { asSeamlessError, SeamlessError } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import type { Manifest } from '../criu/manifest.ts';
import type { VmAgentApi } from '../vm-agent/api.ts';
import { readImage, writeImage } from '../wire/image-stream.ts';
import { createRpcClient, type RpcClient } from '../wire/rpc-client.ts';
import type { TlsMaterial } from '../wire/tls.ts';
import type { SinkState, SinkStatus } from './api.ts';
import { abandonDump, dumpImage, treesGone, undoDump } from './checkpoint.ts';
import type { ImageStore } from './images.ts';
import { admit, mayHoldOnlyCopy, type SinkRequest } from './lifecycle.ts';
import { cgroupName, portName } from './names.ts';
import type { RecordStore, SinkRecord } from './record.ts';
import { type RestoreTarget, restoredTrees, restoreImage } from './restore/restore.ts';
import { type SinkCgroup, setFrozen, sinkCgroup, treeProcesses } from './sandbox/cgroup.ts';
import { isAlive } from './sandbox/process.ts';
import { createSandbox, removeSandbox } from './sandbox/sandbox.ts';
import type { TemplateStore } from './templates.ts';
import type { Trigger } from './trigger.ts';
import { Watch, waitUntraced } from './watch.ts';

/** What a sink needs of its agent. */
export interface SinkSurroundings {
  templates: TemplateStore;
  stateDir: string;
  cgroupRoot: string;
  filterBinary: string;
  tls: TlsMaterial;
  images: ImageStore;
  records: RecordStore;
  log: Log;
  /** Called after each change of state. */
  changed: (status: SinkStatus) => void;
}

const IMAGE_TIMEOUT_MS = 120_000;

export class Sink {
  readonly #around: SinkSurroundings;
  readonly #record: SinkRecord;
  readonly #cgroup: SinkCgroup;
  readonly #watch: Watch;
  readonly #vmAgent: RpcClient<VmAgentApi>;
  readonly #log: Log;
  /** Of the image that lives here, with the names that its externals have here. */
  #manifest: Manifest | null = null;
  #turn: Promise<unknown> = Promise.resolve();
  #saved: Promise<void> = Promise.resolve();

  constructor(around: SinkSurroundings, record: SinkRecord) {
    const { vm, vmAgent } = record;
    this.#around = around;
    this.#record = record;
    this.#log = around.log.with({ vmId: vm });
    this.#cgroup = sinkCgroup(around.cgroupRoot, cgroupName(vm));
    this.#watch = new Watch({
      binary: around.filterBinary,
      cgroup: this.#cgroup.processes,
      externalFile: join(around.stateDir, 'sinks', `${vm}.externals`),
      log: this.#log,
      onTrigger: (trigger) => this.#stopped(trigger, null),
      onLost: (reason) => this.#stopped(null, reason),
    });
    this.#vmAgent = createRpcClient<VmAgentApi>({
      ...vmAgent,
      tls: around.tls,
      peer: agentName(vmAgent.serverName),
    });
  }

  get record(): Readonly<SinkRecord> {
    return this.#record;
  }

  status(): SinkStatus {
    const { vm, state, imageId, trigger, reason } = this.#record;
    return { vm, state, port: portName(vm), imageId, trigger, ...(reason === null ? {} : { reason }) };
  }

  prepare(): Promise<SinkStatus> {
    return this.#inTurn(async () => {
      await this.#ensureContainer();
      return this.status();
    });
  }

  receive(imageId: string): Promise<{ manifest: Manifest; bytes: number; ms: number }> {
    return this.#inTurn(async () => {
      const { images } = this.#around;
      const { vm } = this.#record;
      const started = performance.now();
      const present = await images.read(vm, imageId);
      if (present) return { ...present, ms: 0 };
      const response = await this.#vmAgent.getImage(imageId, { timeoutMs: IMAGE_TIMEOUT_MS });
      const { bytes } = await readImage(response, images.path(vm, imageId));
      const image = await images.read(vm, imageId);
      if (!image)
        throw new SeamlessError(
          'IMAGE_CORRUPT',
          `Expected a manifest in image ${imageId} of ${vm}, got none`,
        );
      return { manifest: image.manifest, bytes, ms: performance.now() - started };
    });
  }

  restore(imageId: string): Promise<SinkStatus> {
    return this.#inTurn(async () => {
      if (this.#already('restore', imageId)) return this.status();
      const image = await this.#around.images.read(this.#record.vm, imageId);
      if (!image) throw this.#refusal(`it has no image ${imageId}; receive it first`);
      if (image.manifest.templateId !== this.#record.templateId) {
        throw new SeamlessError(
          'TEMPLATE_MISMATCH',
          `Expected an image of template ${this.#record.templateId}, got one of ${image.manifest.templateId}`,
        );
      }
      const target = await this.#ensureContainer();
      await this.#step('restoring', imageId);
      try {
        await restoreImage(target, image.manifest, this.#around.images.path(this.#record.vm, imageId));
        this.#manifest = { ...image.manifest, trees: await restoredTrees(target, image.manifest) };
        await this.#watch.seize(this.#manifest.trees);
      } catch (cause) {
        await this.#endContainer();
        throw restoreFailure(cause);
      }
      return this.#become('restored', { imageId, trigger: null, reason: null });
    });
  }

  run(): Promise<SinkStatus> {
    return this.#inTurn(async () => {
      if (this.#already('run')) return this.status();
      if (!this.#manifest) throw this.#refusal('what runs in it is unknown');
      if (!this.#watch.seized) await this.#watch.seize(this.#manifest.trees);
      this.#become('running', { trigger: null, reason: null, ran: true });
      await this.#saved;
      try {
        await this.#watch.go();
      } catch (cause) {
        await this.#watch.stop();
        this.#stopped(null, asSeamlessError(cause).message);
        throw cause;
      }
      return this.status(); // perhaps frozen already: a trigger may come at once
    });
  }

  freeze(): Promise<SinkStatus> {
    return this.#inTurn(async () => {
      if (this.#already('freeze')) {
        await this.#watch.settled();
        return this.status();
      }
      await this.#watch.stop();
      return this.#record.state === 'frozen' ? this.status() : this.#become('frozen', {});
    });
  }

  checkpoint(imageId: string): Promise<{ manifest: Manifest; bytes: number }> {
    return this.#inTurn(async () => {
      const { images } = this.#around;
      const { vm } = this.#record;
      if (this.#already('checkpoint', imageId)) {
        const image = await images.read(vm, imageId);
        if (image) return image;
      }
      await this.#watch.settled();
      if (this.#record.step === 'dumping') await this.#undoDump();
      if (!this.#manifest) throw this.#refusal('what runs in it is unknown');
      const target = await this.#target();
      const manifest = { ...this.#manifest, imageId, criuVersion: target.criuVersion };
      await this.#step('dumping', imageId);
      await images.begin(manifest);
      try {
        await dumpImage(target, manifest, this.#dumpingFolder(imageId));
      } catch (cause) {
        await this.#afterFailedDump(cause);
        throw cause;
      }
      return this.#dumped(imageId);
    });
  }

  send(imageId: string): Promise<{ bytes: number; ms: number }> {
    return this.#inTurn(async () => {
      const { images } = this.#around;
      const { vm } = this.#record;
      const image = await images.read(vm, imageId);
      if (!image) throw this.#refusal(`it has no image ${imageId}`);
      if (this.#record.sent.includes(imageId)) {
        const { state } = await this.#vmAgent.call('image', { imageId });
        if (state !== null) return { bytes: image.bytes, ms: 0 };
      }
      const started = performance.now();
      const write = async (out: NodeJS.WritableStream) => {
        await writeImage(images.path(vm, imageId), out as never);
      };
      await this.#vmAgent.putImage(imageId, write, { timeoutMs: IMAGE_TIMEOUT_MS });
      if (!this.#record.sent.includes(imageId)) this.#record.sent.push(imageId);
      await this.#save();
      return { bytes: image.bytes, ms: performance.now() - started };
    });
  }

  /** Ends everything of the sink; the caller forgets it then. */
  destroy(force: boolean): Promise<void> {
    return this.#inTurn(async () => {
      const { state, ran, imageId, sent, vm } = this.#record;
      if (!force && mayHoldOnlyCopy(state, ran, imageId !== null && sent.includes(imageId))) {
        throw this.#refusal(
          `it is ${state} and may hold the only copy of its processes; \`force\` ends it all the same`,
        );
      }
      await this.#endContainer();
      await this.#around.images.removeAll(vm);
      await this.#saved;
      await this.#around.records.remove(vm);
      this.#vmAgent.close();
    });
  }

  /**
   * After a restart of the agent: finds out what became of a step that was under way, and goes on.
   * False when the sink is gone for good, and forgotten.
   */
  recover(): Promise<boolean> {
    return this.#inTurn(async () => {
      const { step, state, init } = this.#record;
      const alive = init !== null && isAlive(init);
      if (step === 'preparing' || (!alive && state !== 'dumped' && step !== 'restoring')) {
        if (step !== 'preparing')
          this.#log.error('sink.lost', { state, reason: 'its container ended meanwhile' });
        await this.#endContainer();
        await this.#around.records.remove(this.#record.vm);
        return false;
      }
      if (step === 'restoring' || !alive) await this.#endContainer();
      else if (state !== 'prepared' && state !== 'dumped') await this.#takeOver(state);
      return true;
    });
  }

  /** The processes are there: frozen by the filter when it lost its agent, or being dumped. */
  async #takeOver(state: SinkState): Promise<void> {
    const { images } = this.#around;
    const { vm, imageId, step, stepImageId } = this.#record;
    const image = imageId === null ? null : await images.read(vm, imageId);
    if (!image) throw this.#refusal(`its image ${imageId} is gone`);
    this.#manifest = image.manifest;
    let close = () => {};
    if (step === 'dumping' && stepImageId !== null)
      close = await abandonDump(image.manifest, this.#dumpingFolder(stepImageId));
    else await setFrozen(this.#cgroup.processes, true);
    await waitUntraced(() => treeProcesses(this.#cgroup)).finally(close);
    if (step === 'dumping' && stepImageId !== null) {
      const gone = await treesGone(this.#cgroup, image.manifest);
      if (gone.length === image.manifest.trees.length) {
        await this.#dumped(stepImageId);
        return;
      }
      await this.#undoDump();
    }
    const target = await this.#target();
    this.#manifest = { ...image.manifest, trees: await restoredTrees(target, image.manifest) };
    if (state === 'frozen') return;
    await this.#watch.seize(this.#manifest.trees);
    if (state === 'running') await this.#watch.go();
    this.#log.info('sink.takenOver', { state });
  }

  async #ensureContainer(): Promise<RestoreTarget> {
    if (this.#record.init && isAlive(this.#record.init)) return this.#target();
    const { vm, templateId, network, state } = this.#record;
    const { templates, images, stateDir } = this.#around;
    const template = await templates.find(templateId);
    await templates.criuVersion(template);
    this.#record.init = null;
    if (state === 'prepared') await this.#step('preparing', null);
    await removeSandbox({ cgroup: this.#cgroup, port: portName(vm) });
    this.#record.init = await createSandbox({
      cgroup: this.#cgroup,
      port: portName(vm),
      templateRoot: template.root,
      images: images.folderOf(vm),
      mountPoint: join(stateDir, 'mount-point'),
      network,
    });
    this.#become(state, {});
    await this.#saved;
    return this.#target();
  }

  async #target(): Promise<RestoreTarget> {
    const { init, templateId } = this.#record;
    if (!init) throw this.#refusal('its container is gone');
    const { templates } = this.#around;
    return {
      init,
      cgroup: this.#cgroup,
      criuVersion: await templates.criuVersion(await templates.find(templateId)),
    };
  }

  /** Ends the container and all processes in it. Images stay. */
  async #endContainer(): Promise<void> {
    await this.#watch.stop().catch((error: unknown) => this.#log.warn('sink.stop', { error }));
    await removeSandbox({ cgroup: this.#cgroup, port: portName(this.#record.vm) });
    this.#manifest = null;
    Object.assign(this.#record, { init: null, step: null, stepImageId: null });
    await this.#save();
  }

  async #dumped(imageId: string): Promise<{ manifest: Manifest; bytes: number }> {
    const image = await this.#around.images.complete(this.#record.vm, imageId);
    this.#become('dumped', { imageId });
    return image;
  }

  /** Everything is frozen and alive again, or what is dumped of it is kept for another attempt (`step` stays). */
  async #afterFailedDump(cause: unknown): Promise<void> {
    if (asSeamlessError(cause).code !== 'CHECKPOINT_FAILED') {
      this.#stopped(
        null,
        `a part of its processes is only in image ${this.#record.stepImageId}: ${String(cause)}`,
      );
      return;
    }
    if (this.#manifest) this.#manifest.trees = await restoredTrees(await this.#target(), this.#manifest);
    await this.#step(null, null);
  }

  /** Brings back what a dump under way took away. */
  async #undoDump(): Promise<void> {
    const { stepImageId } = this.#record;
    if (!this.#manifest || stepImageId === null) throw this.#refusal('what runs in it is unknown');
    const target = await this.#target();
    await undoDump(target, this.#manifest, this.#dumpingFolder(stepImageId));
    this.#manifest.trees = await restoredTrees(target, this.#manifest);
    await this.#step(null, null);
  }

  #dumpingFolder(imageId: string): string {
    return this.#around.images.dumpingPath(this.#record.vm, imageId);
  }

  /** Something stopped the processes without being asked. */
  #stopped(trigger: Trigger | null, reason: string | null): void {
    if (trigger === null) this.#log.error('sink.stopped', { reason });
    const { state } = this.#record;
    this.#become(state === 'running' ? 'frozen' : state, { trigger, reason });
  }

  /** The one place where the state changes. Told to listeners at once, written right after. */
  #become(state: SinkState, more: Partial<SinkRecord>): SinkStatus {
    const before = this.#record.state;
    Object.assign(this.#record, more, { state, step: null, stepImageId: null });
    const status = this.status();
    this.#around.changed(status);
    this.#log.info('sink.state', { from: before, to: state, imageId: status.imageId });
    this.#save().catch((error: unknown) => this.#log.error('sink.record', { error }));
    return status;
  }

  async #step(step: SinkRecord['step'], stepImageId: string | null): Promise<void> {
    Object.assign(this.#record, { step, stepImageId });
    await this.#save();
  }

  #save(): Promise<void> {
    const { records } = this.#around;
    this.#saved = this.#saved.catch(() => {}).then(() => records.write(this.#record));
    return this.#saved;
  }

  #already(request: SinkRequest, imageId?: string): boolean {
    const { state } = this.#record;
    const admission = admit(request, state, imageId === undefined || imageId === this.#record.imageId);
    if (typeof admission === 'object') throw this.#refusal(admission.refused);
    return admission === 'already';
  }

  #refusal(reason: string): SeamlessError {
    return new SeamlessError('AGENT_REFUSED', `The sink of ${this.#record.vm}: ${reason}`);
  }

  /** One request after the other; what one has changed is on record before it is answered. */
  #inTurn<T>(work: () => Promise<T>): Promise<T> {
    const result = this.#turn.then(work).finally(() => this.#saved.catch(() => {}));
    this.#turn = result.catch(() => {});
    return result;
  }
}

/** The name in the vm-agent’s certificate is its role and name; the role may be left out. */
function agentName(serverName: string): string {
  return serverName.startsWith('vm-agent:') ? serverName : `vm-agent:${serverName}`;
}

/** What the orchestrator acts upon: nothing of the image runs here. */
function restoreFailure(cause: unknown): SeamlessError {
  const error = asSeamlessError(cause);
  if (error.code === 'RESTORE_FAILED' || error.code === 'TEMPLATE_MISMATCH') return error;
  return new SeamlessError('RESTORE_FAILED', error.message, { cause, details: error.details });
}
