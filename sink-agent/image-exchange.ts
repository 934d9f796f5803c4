/** Images between a VM and its sink: fetched whole, sent back as what differs from the image that the VM still has. */
import { asSeamlessError, SeamlessError } from '../common/errors.ts';
import type { Log } from '../common/log.ts';
import type { Manifest } from '../criu/manifest.ts';
import type { VmAgentApi } from '../vm-agent/api.ts';
import { readImage, writeImage } from '../wire/image-stream.ts';
import { createRpcClient, type RpcClient } from '../wire/rpc-client.ts';
import type { TlsMaterial } from '../wire/tls.ts';
import type { AgentAddress } from './api.ts';
import type { ImageStore } from './images.ts';

/** Name of an image that is sent for nothing. */
const REHEARSAL = 'rehearsal';
const TIMEOUT_MS = 120_000;

export class ImageExchange {
  readonly #vm: string;
  readonly #images: ImageStore;
  readonly #vmAgent: RpcClient<VmAgentApi>;
  readonly #log: Log;
  /** The image that goes to the VM before anybody has asked for that; `sent` gives its bytes, null when it could not. */
  #ahead: { imageId: string; sent: Promise<number | null>; stop: AbortController } | null = null;

  constructor(options: {
    vm: string;
    vmAgent: AgentAddress;
    images: ImageStore;
    tls: TlsMaterial;
    log: Log;
  }) {
    const { vm, vmAgent, images, tls, log } = options;
    this.#vm = vm;
    this.#images = images;
    this.#log = log;
    this.#vmAgent = createRpcClient<VmAgentApi>({ ...vmAgent, tls, peer: agentName(vmAgent.serverName) });
  }

  /** Fetches an image into the store. `IMAGE_CORRUPT` leaves nothing. */
  async fetch(imageId: string): Promise<{ manifest: Manifest; bytes: number }> {
    const response = await this.#vmAgent.getImage(imageId, { timeoutMs: TIMEOUT_MS });
    await readImage(response, this.#images.path(this.#vm, imageId));
    const manifest = await this.#images.read(this.#vm, imageId);
    if (manifest) return { manifest, bytes: this.#images.bytes(this.#vm, imageId) };
    throw new SeamlessError(
      'IMAGE_CORRUPT',
      `Expected a manifest in image ${imageId} of ${this.#vm}, got none`,
    );
  }

  /** Whether the VM has an image of this name. */
  async isThere(imageId: string): Promise<boolean> {
    return (await this.#vmAgent.call('image', { imageId })).state !== null;
  }

  /** Sends an image of the store; all of it, should the VM say no to less. Gives the bytes that went. */
  async send({ imageId, originId }: Manifest, signal?: AbortSignal): Promise<number> {
    if (originId !== undefined) {
      const delta = { vm: this.#vm, imageId, parentId: originId, as: imageId };
      try {
        return await this.#images.withDelta(delta, (folder) => this.#put(imageId, folder, signal));
      } catch (cause) {
        const error = asSeamlessError(cause);
        if (error.code !== 'AGENT_REFUSED' && error.code !== 'IMAGE_CORRUPT') throw cause;
        this.#log.warn('send.whole', { imageId, originId, error });
      }
    }
    return this.#put(imageId, this.#images.path(this.#vm, imageId), signal);
  }

  /** Begins to send an image. Nobody waits for it, and it may fail: then `send` does it again. */
  sendAhead(manifest: Manifest): void {
    const stop = new AbortController();
    const sent = this.send(manifest, stop.signal).catch((error: unknown) => {
      this.#log.warn('send.ahead', { error });
      return null;
    });
    this.#ahead = { imageId: manifest.imageId, sent, stop };
  }

  /** Who takes a dump back has the VM forget the image then: nothing of it may arrive after that. */
  async endAhead(): Promise<void> {
    this.#ahead?.stop.abort();
    await this.#ahead?.sent;
    this.#ahead = null;
  }

  /** What was sent of it ahead; asked once, since the VM may have begun anew since. */
  async sentAhead(imageId: string): Promise<number | null> {
    const ahead = this.#ahead;
    this.#ahead = null;
    return ahead?.imageId === imageId ? ahead.sent : null;
  }

  /** Sends what a wake would send, and has the VM forget it. */
  async rehearse(imageId: string, signal: AbortSignal): Promise<void> {
    const image = { vm: this.#vm, imageId, parentId: imageId, as: REHEARSAL };
    await this.#images.withDelta(image, (folder) => this.#put(REHEARSAL, folder, signal));
    await this.#vmAgent.call(
      'discard',
      { imageId: REHEARSAL, force: true },
      { signal, timeoutMs: TIMEOUT_MS },
    );
  }

  close(): void {
    this.#vmAgent.close();
  }

  async #put(imageId: string, folder: string, signal?: AbortSignal): Promise<number> {
    let bytes = 0;
    const write = async (out: Parameters<typeof writeImage>[1]) => {
      ({ bytes } = await writeImage(folder, out));
    };
    await this.#vmAgent.putImage(imageId, write, { timeoutMs: TIMEOUT_MS, ...(signal ? { signal } : {}) });
    return bytes;
  }
}

/** The name in the vm-agent’s certificate is its role and name; the role may be left out. */
function agentName(serverName: string): string {
  return serverName.startsWith('vm-agent:') ? serverName : `vm-agent:${serverName}`;
}
