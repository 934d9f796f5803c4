import { mkdtemp, rm, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { expect, onTestFinished, test } from 'vitest';
import { parseConfig, readConfig } from '../../../sink-agent/config.ts';

const GOOD = {
  name: 'sink1',
  listen: { address: '10.0.0.1', port: 7443 },
  tls: { ca: '/pki/ca', cert: '/pki/cert', key: '/pki/key' },
  templatesDir: '/var/cache/seamless/templates',
  stateDir: '/run/seamless/sink',
  cgroupRoot: '/sys/fs/cgroup',
};

const PARSED = {
  ...GOOD,
  runtime: { type: 'namespaces', memoryMiB: 1024, pids: 4096 },
  pageOutAfterMs: 60_000,
};

test('a whole configuration is taken as it is, with sinks in namespaces unless told', () => {
  expect(parseConfig(GOOD)).toEqual(PARSED);
});

test('memory of those that wait is paged out after a while, or never', () => {
  expect(parseConfig({ ...GOOD, pageOutAfterMs: 500 }).pageOutAfterMs).toBe(500);
  expect(parseConfig({ ...GOOD, pageOutAfterMs: null }).pageOutAfterMs).toBeNull();
  expect(() => parseConfig({ ...GOOD, pageOutAfterMs: -1 })).toThrow('pageOutAfterMs: expected milliseconds');
});

test('sinks in Docker want a socket; their limits have defaults', () => {
  const runtime = { type: 'docker', socket: '/run/docker.sock' };
  const limits = { memoryMiB: 1024, pids: 4096 };
  expect(parseConfig({ ...GOOD, runtime }).runtime).toEqual({ ...runtime, ...limits });
  expect(parseConfig({ ...GOOD, runtime: { ...runtime, pids: 9 } }).runtime).toMatchObject({ pids: 9 });
  const wrong = { type: 'podman', memoryMiB: 0, image: 'x' };
  expect(() => parseConfig({ ...GOOD, runtime: wrong })).toThrow(
    expect.objectContaining({
      details: {
        problems: [
          expect.stringContaining('runtime.image: unknown'),
          expect.stringContaining('runtime.memoryMiB: expected a positive number, got 0'),
          expect.stringContaining('runtime.type: expected namespaces or docker, got "podman"'),
          expect.stringContaining('runtime.socket: expected an absolute path'),
        ],
      },
    }),
  );
});

test('all problems are reported at once, unknown keys among them', () => {
  const wrong = {
    ...GOOD,
    name: '',
    listen: { address: '10.0.0.1', port: 'x', host: 'y' },
    stateDir: 'relative',
    color: 1,
  };
  expect(() => parseConfig(wrong)).toThrow(
    expect.objectContaining({
      code: 'CONFIG_INVALID',
      details: {
        problems: [
          expect.stringContaining('color: unknown'),
          expect.stringContaining('listen.host: unknown'),
          expect.stringContaining('name: expected a text'),
          expect.stringContaining('listen.port: expected a port number, got "x"'),
          expect.stringContaining('stateDir: expected an absolute path'),
        ],
      },
    }),
  );
});

test('a path that would break a mount option is refused', () => {
  expect(() => parseConfig({ ...GOOD, templatesDir: '/a,upperdir=/etc' })).toThrow('templatesDir');
});

test('a file that is missing or no JSON is named', async () => {
  const folder = await mkdtemp(join(tmpdir(), 'sls-config-'));
  onTestFinished(() => rm(folder, { recursive: true }));
  const file = join(folder, 'config.json');
  await expect(readConfig(file)).rejects.toMatchObject({
    code: 'CONFIG_INVALID',
    message: expect.stringContaining(file),
  });
  await writeFile(file, '{');
  await expect(readConfig(file)).rejects.toThrow('is not JSON');
  await writeFile(file, JSON.stringify(GOOD));
  await expect(readConfig(file)).resolves.toEqual(PARSED);
});
