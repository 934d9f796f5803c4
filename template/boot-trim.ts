/**
 * What a VM of this template does not start, and why. The one place: a mask is a link to /dev/null, as `systemctl mask`
 * makes it. Under emulation each unit costs 50–500 ms of boot, and an idle VM wants nothing that wakes up by itself.
 */
import { mkdir, readdir, rm, symlink } from 'node:fs/promises';
import { join } from 'node:path';

/** Units, in /etc/systemd/system. */
export const MASKED_UNITS: Readonly<Record<string, readonly string[]>> = {
  'timers: an idle VM must stay idle; updates come with a new template': [
    'apt-daily.timer',
    'apt-daily-upgrade.timer',
    'dpkg-db-backup.timer',
    'e2scrub_all.timer',
    'fstrim.timer',
    'systemd-tmpfiles-clean.timer',
  ],
  'first-boot and update steps: the template has done them': [
    'ldconfig.service',
    'systemd-firstboot.service',
    'systemd-hwdb-update.service',
    'systemd-journal-catalog-update.service',
    'systemd-machine-id-commit.service',
    'systemd-sysusers.service',
    'systemd-update-done.service',
    'systemd-sysext.socket',
    'systemd-confext.service',
    'e2scrub_reap.service',
  ],
  'hardware: the initramfs has loaded the few modules, there is nothing else': [
    'kmod-static-nodes.service',
    'modprobe@.service',
    'systemd-modules-load.service',
    'systemd-tmpfiles-setup-dev-early.service',
    'systemd-tmpfiles-setup-dev.service',
    'systemd-udevd.service',
    'systemd-udevd-control.socket',
    'systemd-udevd-kernel.socket',
    'systemd-udev-trigger.service',
    'systemd-udev-settle.service',
    'systemd-hibernate-clear.service',
    'systemd-hibernate-resume.service',
    'systemd-backlight@.service',
    'systemd-rfkill.socket',
    'systemd-pstore.service',
    'systemd-tpm2-setup.service',
    'systemd-tpm2-setup-early.service',
    'systemd-pcrextend.socket',
    'systemd-pcrlock.socket',
    'systemd-pcrmachine.service',
    'systemd-pcrphase.service',
    'systemd-pcrphase-sysinit.service',
  ],
  'network: set by the initramfs, static': [
    'systemd-networkd.service',
    'systemd-networkd.socket',
    'systemd-networkd-wait-online.service',
    'systemd-resolved.service',
    'systemd-timesyncd.service',
    'networking.service',
  ],
  'consoles: nobody sits at one': [
    'getty@.service',
    'serial-getty@.service',
    'console-getty.service',
    'getty.target',
    'getty-static.service',
    'systemd-ask-password-console.path',
    'systemd-ask-password-wall.path',
    'systemd-initctl.socket',
  ],
  'mounts nothing here uses': [
    'dev-hugepages.mount',
    'dev-mqueue.mount',
    'proc-sys-fs-binfmt_misc.automount',
    'sys-fs-fuse-connections.mount',
    'sys-kernel-config.mount',
    'sys-kernel-debug.mount',
    'sys-kernel-tracing.mount',
    'systemd-binfmt.service',
    'run-lock.mount',
    'tmp.mount',
  ],
  'the journal stays in memory; seeds and run levels matter to nobody': [
    'systemd-journal-flush.service',
    'systemd-random-seed.service',
    'systemd-update-utmp.service',
    'systemd-update-utmp-runlevel.service',
    'systemd-hostnamed.socket',
    'systemd-creds.socket',
  ],
};

/** Generators, in /etc/systemd/system-generators and user-generators: each is a process at every boot and reload. */
export const MASKED_GENERATORS: Readonly<Record<'system' | 'user', readonly string[]>> = {
  system: [
    'systemd-debug-generator',
    'systemd-fstab-generator',
    'systemd-getty-generator',
    'systemd-gpt-auto-generator',
    'systemd-hibernate-resume-generator',
    'systemd-integritysetup-generator',
    'systemd-cryptsetup-generator',
    'systemd-veritysetup-generator',
    'systemd-rc-local-generator',
    'systemd-run-generator',
    'systemd-ssh-generator',
    'systemd-system-update-generator',
    'systemd-sysv-generator',
    'systemd-tpm2-generator',
    'systemd-bless-boot-generator',
  ],
  user: ['systemd-xdg-autostart-generator'],
};

/** Applies both lists to the tree at `root`. */
export async function trimBoot(root: string): Promise<void> {
  const masks = [
    ...Object.values(MASKED_UNITS)
      .flat()
      .map((unit) => `etc/systemd/system/${unit}`),
    ...MASKED_GENERATORS.system.map((name) => `etc/systemd/system-generators/${name}`),
    ...MASKED_GENERATORS.user.map((name) => `etc/systemd/user-generators/${name}`),
  ];
  for (const folder of ['system', 'system-generators', 'user-generators'])
    await mkdir(join(root, 'etc/systemd', folder), { recursive: true, mode: 0o755 });
  for (const path of masks) await symlink('/dev/null', join(root, path));
}

/** As `systemctl disable` does: nothing in the tree at `root` wants these units any more, and they can be started as before. */
export async function disableUnits(root: string, units: readonly string[]): Promise<void> {
  const folder = join(root, 'etc/systemd/system');
  for (const name of await readdir(folder))
    if (/\.(wants|requires)$/.test(name))
      for (const unit of units) await rm(join(folder, name, unit), { force: true });
}
