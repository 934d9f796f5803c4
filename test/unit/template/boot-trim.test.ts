import { mkdir, mkdtemp, readdir, rm, symlink } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { disableUnits } from '../../../template/boot-trim.ts';

test('a unit that does not start at boot is wanted by nobody, and the others as before', async () => {
  const root = await mkdtemp(join(tmpdir(), 'trim-'));
  onTestFinished(() => rm(root, { recursive: true }));
  const folder = join(root, 'etc/systemd/system');
  for (const link of ['multi-user.target.wants/tomcat.service', 'multi-user.target.wants/ssh.service'])
    await mkdir(join(folder, link, '..'), { recursive: true }).then(() =>
      symlink('/usr/lib/systemd/system/some.service', join(folder, link)),
    );
  await symlink('/dev/null', join(folder, 'fstrim.timer'));
  await disableUnits(root, ['tomcat.service', 'not-installed.service']);
  expect(await readdir(join(folder, 'multi-user.target.wants'))).toEqual(['ssh.service']);
  expect(await readdir(folder)).toContain('fstrim.timer');
});
