/**
 * Images on the sink server, in memory: `stateDir/images/VM/IMAGE`. An image under its own name is whole; one being
 * received or dumped has another name until then. Of one whose processes run, and which the VM has too, only digests of the pages are kept.
 */
import { existsSync, rmSync } from 'node:fs';
import { mkdir, readFile, rename, rm, statfs, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { SeamlessError } from '../common/errors.ts';
import { type Exec, exec } from '../common/exec.ts';
import { makeDelta } from '../criu/delta.ts';
import { MANIFEST_VERSION, type Manifest } from '../criu/manifest.ts';
import { keepDigests } from '../criu/page-digests.ts';
import { imageBytes } from '../wire/image-stream.ts';
import { safeName } from './names.ts';

const MANIFEST = 'manifest.json';
const TMPFS_MAGIC = 0x01021994;

export interface ImageStore {
  /** Folder of all images of a VM; mounted in its sink. */
  folderOf(vm: string): string;
  /** Folder of an image, whether there or not. */
  path(vm: string, imageId: string): string;
  /** `null` when there is no such image. */
  read(vm: string, imageId: string): Promise<Manifest | null>;
  /** Of all files of an image that is there. */
  bytes(vm: string, imageId: string): number;
  /** Folder of an image that is being dumped. */
  dumpingPath(vm: string, imageId: string): string;
  /** The manifest of an image that is being dumped; `null` when there is none. */
  readDumping(vm: string, imageId: string): Promise<Manifest | null>;
  /** Makes the manifest and the empty folders of an image to be dumped; it becomes one by `complete`. */
  begin(manifest: Manifest): Promise<void>;
  /** Safe to repeat. */
  complete(vm: string, imageId: string): Promise<void>;
  /**
   * Calls `use` with the folder of a copy of the image that lacks what image `parentId` has, and removes the copy.
   * `IMAGE_CORRUPT` when none can be made: the image itself is as it was.
   */
  withDelta<T>(image: Delta, use: (folder: string) => Promise<T>): Promise<T>;
  /** Frees the pages of an image that nobody will restore here again; `withDelta` goes on with what is left. Safe to repeat. */
  lighten(manifest: Manifest): Promise<void>;
  removeAll(vm: string): Promise<void>;
}

export interface Delta {
  vm: string;
  imageId: string;
  parentId: string;
  /** Name of the copy. */
  as: string;
}

/** Opens the store in `folder`; mounts a tmpfs there when it lies on a disk. @param quickly starts what a wake waits for. */
export async function openImageStore(folder: string, quickly: Exec = exec): Promise<ImageStore> {
  await mkdir(folder, { recursive: true, mode: 0o700 });
  if ((await statfs(folder)).type !== TMPFS_MAGIC) {
    await exec(['mount', '-t', 'tmpfs', '-o', 'mode=700', 'seamless-images', folder]);
  }
  const folderOf = (vm: string) => join(folder, vm);
  const path = (vm: string, imageId: string) => join(folderOf(vm), safeName('an image id', imageId));
  const thin = async ({ vm, imageId, parentId, as }: Delta, into: string) => {
    const manifest = await given(store.read(vm, imageId), imageId);
    const trees = manifest.trees.map(({ folder }) => folder);
    await makeDelta(path(vm, imageId), path(vm, parentId), trees, into, quickly);
    await writeFile(join(into, MANIFEST), JSON.stringify({ ...manifest, imageId: as, parentId }));
  };
  const dumpingPath = (vm: string, imageId: string) => `${path(vm, imageId)}.dumping`;
  const store: ImageStore = {
    folderOf,
    path,
    dumpingPath,
    read: (vm, imageId) => readManifest(path(vm, imageId), vm, imageId),
    bytes: (vm, imageId) => imageBytes(path(vm, imageId)),
    readDumping: (vm, imageId) => readManifest(dumpingPath(vm, imageId), vm, imageId),
    async begin(manifest) {
      const at = dumpingPath(manifest.vm, manifest.imageId);
      await rm(at, { recursive: true, force: true });
      for (const tree of manifest.trees) await mkdir(join(at, tree.folder), { recursive: true, mode: 0o700 });
      await writeFile(join(at, MANIFEST), JSON.stringify(manifest));
    },
    async complete(vm, imageId) {
      const at = path(vm, imageId);
      if (existsSync(dumpingPath(vm, imageId))) await rename(dumpingPath(vm, imageId), at);
      if (!existsSync(join(at, MANIFEST)))
        throw new SeamlessError('INTERNAL', `Expected an image in ${at}, got nothing`);
    },
    async withDelta(image, use) {
      const { vm, imageId, parentId, as } = image;
      const folder = `${path(vm, as)}.delta`;
      await rm(folder, { recursive: true, force: true });
      try {
        await thin(image, folder).catch((cause: Error) => {
          throw new SeamlessError(
            'IMAGE_CORRUPT',
            `No delta of ${imageId} to ${parentId}: ${cause.message}`,
            { cause },
          );
        });
        return await use(folder);
      } finally {
        rmSync(folder, { recursive: true, force: true }); // a wake waits for it, and it is in memory
      }
    },
    lighten: ({ vm, imageId, trees }) =>
      keepDigests(
        path(vm, imageId),
        trees.map(({ folder: tree }) => tree),
        quickly,
      ),
    removeAll: (vm) => rm(folderOf(vm), { recursive: true, force: true }),
  };
  return store;
}

async function given<T>(image: Promise<T | null>, imageId: string): Promise<T> {
  const found = await image;
  if (found) return found;
  throw new SeamlessError('AGENT_REFUSED', `Expected an image ${imageId}, got none`);
}

async function readManifest(folder: string, vm: string, imageId: string): Promise<Manifest | null> {
  const text = await readFile(join(folder, MANIFEST), 'utf8').catch((error: NodeJS.ErrnoException) => {
    if (error.code === 'ENOENT') return null;
    throw error;
  });
  return text === null ? null : checkManifest(text, vm, imageId);
}

/** The manifest in `text`, checked for what paths and commands are made of. Throws `IMAGE_CORRUPT`. */
function checkManifest(text: string, vm: string, imageId: string): Manifest {
  try {
    const manifest = JSON.parse(text) as Manifest;
    if (manifest.version !== MANIFEST_VERSION) throw new Error(`version ${manifest.version}`);
    if (manifest.imageId !== imageId) throw new Error(`image ${manifest.imageId}`);
    if (manifest.vm !== vm) throw new Error(`VM ${manifest.vm}`);
    for (const { folder, root } of manifest.trees) {
      safeName('a folder', folder);
      if (!Number.isSafeInteger(root) || root < 2) throw new Error(`root process ${root}`);
    }
    return manifest;
  } catch (cause) {
    throw new SeamlessError(
      'IMAGE_CORRUPT',
      `Expected a manifest of version ${MANIFEST_VERSION} of image ${imageId} of ${vm}, got ${(cause as Error).message}`,
      { cause },
    );
  }
}
