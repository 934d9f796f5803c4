import { readdirSync, statSync, writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, test } from 'vitest';
import { loadConfig } from '../../../../orchestrator/config.ts';
import { hostEntry, sshTarget } from '../../../../orchestrator/registry/host-entry.ts';
import { readRegistry, registryPath, writeRegistry } from '../../../../orchestrator/registry/registry.ts';
import { temporaryFolder } from '../saga/suite.ts';

const HOST_KEY = 'SHA256:HVKTJGJ0HVE6u/VxSZehiTU0n4x9CNqp0wxeeay/46Q';
const ENTRY = hostEntry({ name: 'hv1', url: 'ssh://hv1.example', hostKey: HOST_KEY, keyFile: '/key' });

test('what is written is read, in one file that only its owner reads, and nothing else is left', () => {
  const folder = temporaryFolder();
  expect(readRegistry(folder)).toEqual({ hosts: [], sinks: [] });
  writeRegistry(folder, { hosts: [ENTRY], sinks: [] });
  expect(readRegistry(folder)).toEqual({ hosts: [ENTRY], sinks: [] });
  expect(readdirSync(folder)).toEqual(['registry.json']);
  expect(statSync(registryPath(folder)).mode & 0o777).toBe(0o600);
});

test('a registry of another format, or that is none, is refused with its path', () => {
  const folder = temporaryFolder();
  for (const text of ['{"format":2,"hosts":[],"sinks":[]}', '{"hosts":[]}', '{', 'null']) {
    writeFileSync(registryPath(folder), text);
    expect(() => readRegistry(folder)).toThrow(registryPath(folder));
  }
});

test('added hosts stand beside those of the configuration, and a name is there once', () => {
  const folder = temporaryFolder();
  const path = join(folder, 'seamless.yaml');
  const pem = `{ ca: ca, cert: cert, key: key }`;
  const config = (hosts: string) =>
    writeFileSync(
      path,
      `# commented\nstateDir: ${folder}\nsocket: s\ntls: ${pem}\nhosts: ${hosts}\nsinks: []\nvms: []\n`,
    );
  writeRegistry(folder, { hosts: [ENTRY], sinks: [] });
  config('[]');
  expect(loadConfig(path).hosts).toEqual([ENTRY]);
  config(JSON.stringify([ENTRY]));
  expect(() => loadConfig(path)).toThrow('/hosts: “hv1” is there twice');
  writeRegistry(folder, { hosts: [{ ...ENTRY, bridge: 7 }], sinks: [] });
  config('[]');
  expect(() => loadConfig(path)).toThrow('/hosts/0/bridge');
});

test('an ssh URL names user, host and port, and nothing else', () => {
  expect(sshTarget('ssh://root@hv1.example:2222')).toEqual({
    user: 'root',
    address: 'hv1.example',
    port: 2222,
  });
  expect(sshTarget('ssh://hv1.example')).toEqual({ address: 'hv1.example' });
  expect(sshTarget('ssh://root@[fd00::1]')).toEqual({ user: 'root', address: 'fd00::1' });
  for (const odd of [
    'hv1.example',
    'http://hv1',
    'ssh://',
    'ssh://u:secret@hv1',
    'ssh://hv1/path',
    'ssh://hv1?a',
  ]) {
    expect(() => sshTarget(odd)).toThrow('Expected ssh://');
  }
});
