/** What Docker is told of a sink. */
import { expect, test } from 'vitest';
import { containerSpec } from '../../../sink-agent/runtime/docker/container-spec.ts';

const NETWORK = { hostname: 'web', interfaces: [], routes: [], neighbours: [] };
const PLAN = {
  vm: 'vm1',
  template: { id: 'abcdef0123456789', root: '/templates/default/root' },
  images: '/state/images/vm1',
  network: NETWORK,
};
const spec = containerSpec('sink1', 'sha256:12', PLAN, { memoryMiB: 512, pids: 99 });

test('a sink is found by its name and labels, and known by its template', () => {
  expect(spec.name).toBe('seamless-sink1-vm1');
  expect(spec.Image).toBe('seamless-template:abcdef012345');
  expect(spec.Labels).toEqual({
    'seamless.vm': 'vm1',
    'seamless.sink-server': 'sink1',
    'seamless.template': 'abcdef0123456789',
    'seamless.image': 'sha256:12',
  });
});

test('it has limits, no network of Docker’s, no rights, and is never started again by Docker', () => {
  expect(spec.HostConfig).toMatchObject({
    Memory: 512 * 2 ** 20,
    PidsLimit: 99,
    NetworkMode: 'none',
    CapDrop: ['ALL'],
    RestartPolicy: { Name: 'no' },
  });
});

test('the template’s folder is no mount: what a sink writes stays in its own layer', () => {
  const sources = spec.HostConfig?.Mounts?.map(({ Source }) => Source) ?? [];
  expect(sources.some((source) => source.startsWith('/templates'))).toBe(false);
  expect(spec.HostConfig?.Mounts?.filter(({ ReadOnly }) => !ReadOnly).map(({ Target }) => Target)).toEqual([
    '/run/seamless-sink/images',
  ]);
});
