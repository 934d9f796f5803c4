/** The folder of images in the guest: a tmpfs of its own, since /run takes only a fifth of the memory. */
import { mkdirSync, readFileSync } from 'node:fs';
import { readFile, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import { MANIFEST_VERSION, type Manifest } from '../criu/manifest.ts';
import { imageBytes } from '../wire/image-stream.ts';

export const MANIFEST_FILE = 'manifest.json';

export interface ImageStore {
  /** Folder of an image, there or not. `REQUEST_INVALID` for a name that is no file name. */
  folder(imageId: string): string;
  manifest(imageId: string): Promise<Manifest>;
  bytes(imageId: string): number;
  remove(imageId: string): Promise<void>;
}

/** Makes sure that `root` is a tmpfs that may take three quarters of the memory; it takes what its files take. */
export async function openImageStore(root: string): Promise<ImageStore> {
  mkdirSync(root, { recursive: true, mode: 0o700 });
  const isMounted = readFileSync('/proc/self/mountinfo', 'utf8').includes(` ${root} `);
  if (!isMounted)
    await exec(['mount', '-t', 'tmpfs', '-o', 'size=75%,mode=0700,nodev,nosuid', 'seamless', root]);
  const folder = (imageId: string) => {
    if (!/^[A-Za-z0-9_-][A-Za-z0-9._-]{0,99}$/.test(imageId)) {
      throw new SeamlessError(
        'REQUEST_INVALID',
        `Expected an image’s name of letters, digits, . _ -, got ${imageId}`,
      );
    }
    return join(root, imageId);
  };
  return {
    folder,
    async manifest(imageId) {
      const path = join(folder(imageId), MANIFEST_FILE);
      try {
        const manifest = JSON.parse(await readFile(path, 'utf8')) as Manifest;
        if (manifest.version === MANIFEST_VERSION) return manifest;
        throw new Error(`expected manifest version ${MANIFEST_VERSION}, got ${manifest.version}`);
      } catch (cause) {
        throw new SeamlessError('IMAGE_CORRUPT', `${path}: ${(cause as Error).message}`, { cause });
      }
    },
    bytes: (imageId) => imageBytes(folder(imageId)),
    remove: (imageId) => rm(folder(imageId), { recursive: true, force: true }),
  };
}
