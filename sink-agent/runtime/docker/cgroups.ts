/**
 * The cgroups that the container engine has made for a container.
 *
 * On a host with cgroup v2 alone there is one, and the sink's lies in it: frozen and filtered by us, limited and counted by the engine.
 * Where v1's controllers are mounted one by one, the engine uses those and has no place in v2: the sink's own cgroup serves there.
 */
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';
import { cgroupAt, type SinkCgroup } from '../../sandbox/cgroup.ts';

/** `docker pause` must not stop what the filter holds: a frozen sink could not be woken. */
const NOT_JOINED = ['freezer'];

/** The container's cgroup of v2, `null` where the engine has made none. */
export async function engineCgroup(pid: number, containerId: string): Promise<SinkCgroup | null> {
  const [memberships, mounts] = await Promise.all([membershipsOf(pid), readMounts()]);
  const path = memberships.find(({ controllers }) => controllers === '')?.path;
  const mount = mounts.find(({ type }) => type === 'cgroup2');
  return path?.includes(containerId) && mount ? cgroupAt(join(mount.at, path)) : null;
}

/** The container's cgroups of v1, a folder for each hierarchy that it has one of its own in. */
export async function limitingCgroups(pid: number): Promise<string[]> {
  const [memberships, own, mounts] = await Promise.all([
    membershipsOf(pid),
    membershipsOf(process.pid),
    readMounts(),
  ]);
  return memberships.flatMap(({ controllers, path }) => {
    if (controllers === '' || NOT_JOINED.includes(controllers)) return [];
    if (own.some((mine) => mine.controllers === controllers && mine.path === path)) return [];
    const mount = mounts.find(
      ({ type, options }) =>
        type === 'cgroup' && controllers.split(',').every((each) => options.split(',').includes(each)),
    );
    return mount ? [join(mount.at, path)] : [];
  });
}

async function membershipsOf(pid: number): Promise<{ controllers: string; path: string }[]> {
  const text = await readFile(`/proc/${pid}/cgroup`, 'utf8');
  return text
    .trim()
    .split('\n')
    .map((line) => {
      const [, controllers = '', ...path] = line.split(':');
      return { controllers, path: path.join(':') };
    });
}

async function readMounts(): Promise<{ at: string; type: string; options: string }[]> {
  const text = await readFile('/proc/self/mounts', 'utf8');
  return text.split('\n').map((line) => {
    const [, at = '', type = '', options = ''] = line.split(' ');
    return { at, type, options };
  });
}
