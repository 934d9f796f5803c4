/**
 * What QEMU boots a template with: its kernel as an uncompressed ELF (QEMU enters it directly, which saves seconds of
 * emulated unpacking) and a small initramfs of busybox, the virtio modules and guest-init.sh.
 */
import { chmod, copyFile, mkdir, mkdtemp, readdir, readFile, rm, writeFile } from 'node:fs/promises';
import { dirname, join } from 'node:path';
import { zstdDecompressSync } from 'node:zlib';
import { SeamlessError } from '../common/errors.ts';
import { exec } from '../common/exec.ts';
import type { TemplatePaths } from './store.ts';

/** In loading order. virtio itself, its PCI bus and ext4 are built into Debian's cloud kernel. */
const MODULES = [
  'kernel/drivers/block/virtio_blk',
  'kernel/net/core/failover',
  'kernel/drivers/net/net_failover',
  'kernel/drivers/net/virtio_net',
  'kernel/drivers/virtio/virtio_balloon',
  'kernel/drivers/firmware/qemu_fw_cfg',
  // Through these CRIU looks at sockets. Loaded here, the first dump does not wait for modprobe.
  'kernel/net/unix/unix_diag',
  'kernel/net/ipv4/inet_diag',
  'kernel/net/ipv4/tcp_diag',
  'kernel/net/ipv4/udp_diag',
  'kernel/net/packet/af_packet_diag',
  'kernel/net/netlink/netlink_diag',
];

const BUSYBOX = '/bin/busybox';

/** Makes vmlinux and initramfs.img from the tree. @returns the kernel's release. */
export async function makeBootFiles(paths: TemplatePaths): Promise<string> {
  const releases = await readdir(join(paths.root, 'usr/lib/modules'));
  const release = releases[0];
  if (release === undefined || releases.length > 1)
    throw new SeamlessError(
      'INTERNAL',
      `expected one kernel in the tree, got ${releases.join(', ') || 'none'}`,
    );
  const image = await readFile(join(paths.root, 'boot', `vmlinuz-${release}`));
  await writeFile(paths.kernel, extractKernel(image));
  await makeInitramfs(paths, release);
  return release;
}

/**
 * The ELF kernel inside a bzImage. Its place stands in the header of the boot protocol
 * (Documentation/arch/x86/boot.rst: setup_sects, payload_offset, payload_length).
 */
export function extractKernel(image: Buffer): Buffer {
  if (image.length < 0x250 || image.toString('latin1', 0x202, 0x206) !== 'HdrS')
    throw new SeamlessError('INTERNAL', 'expected a bzImage kernel, got something without its header');
  const setupSectors = image.readUInt8(0x1f1) || 4;
  const start = (setupSectors + 1) * 512 + image.readUInt32LE(0x248);
  const payload = image.subarray(start, start + image.readUInt32LE(0x24c));
  if (payload.length < 8 || payload.readUInt32LE(0) !== 0xfd2fb528)
    throw new SeamlessError(
      'INTERNAL',
      'expected a kernel compressed by zstd, as Debian’s is since bookworm',
    );
  // The last four bytes are the unpacked size, put there by the kernel's build.
  return zstdDecompressSync(payload.subarray(0, -4));
}

async function makeInitramfs(paths: TemplatePaths, release: string): Promise<void> {
  const work = await mkdtemp(join(paths.directory, 'initramfs-'));
  try {
    for (const folder of ['bin', 'dev', 'proc', 'sys', 'root', 'modules']) await mkdir(join(work, folder));
    await copyFile(BUSYBOX, join(work, 'bin/busybox'));
    await copyFile(join(import.meta.dirname, 'guest-init.sh'), join(work, 'init'));
    await chmod(join(work, 'init'), 0o755);
    for (const module of MODULES) {
      const packed = join(paths.root, 'usr/lib/modules', release, `${module}.ko.xz`);
      const file = join(work, 'modules', `${module.slice(dirname(module).length + 1)}.ko`);
      await copyFile(packed, `${file}.xz`);
      await exec(['xz', '--decompress', `${file}.xz`]);
    }
    const order = MODULES.map((module) => `${module.slice(dirname(module).length + 1)}.ko\n`);
    await writeFile(join(work, 'modules/order'), order.join(''));
    const names = ['.', ...(await readdir(work, { recursive: true })).sort()].join('\n');
    await exec(
      [
        'cpio',
        '--create',
        '--format=newc',
        '--quiet',
        '--reproducible',
        '--owner=0:0',
        `--file=${paths.initramfs}`,
      ],
      {
        cwd: work,
        input: `${names}\n`,
      },
    );
  } finally {
    await rm(work, { recursive: true, force: true });
  }
}
