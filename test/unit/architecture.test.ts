/** ARCHITECTURE.md says which part may import which; so do the imports. */
import { readdirSync, readFileSync } from 'node:fs';
import { dirname, join, relative } from 'node:path';
import { expect, test } from 'vitest';

const ROOT = join(import.meta.dirname, '../..');
const API = ['sink-agent/api.ts', 'sink-agent/trigger.ts', 'vm-agent/api.ts'];

/** Folder → what its files may import from other folders: a folder, or single files. */
const MAY_IMPORT: Record<string, string[]> = {
  common: [],
  wire: ['common'],
  criu: ['common'],
  ovs: ['common'],
  profiles: ['common', 'criu/answers.ts', 'vm-agent/api.ts'],
  template: ['common'],
  lab: ['common', 'template', 'orchestrator/install/bundle.ts'],
  'vm-agent': ['common', 'wire', 'criu'],
  'sink-agent': ['common', 'wire', 'criu', 'vm-agent/api.ts'],
  orchestrator: ['common', 'wire', 'ovs', 'profiles', 'criu/manifest.ts', 'criu/answers.ts', ...API],
  packaging: ['common', 'orchestrator/install/bundle.ts'],
  demo: ['common', 'lab', 'template/store.ts', 'orchestrator/api/vms.ts', 'orchestrator/vm/operation.ts'],
};

test.each(Object.entries(MAY_IMPORT))('%s imports only what ARCHITECTURE.md allows', (folder, allowed) => {
  const strangers = importsOf(folder).filter(
    ({ to }) =>
      !to.startsWith(`${folder}/`) && !allowed.some((place) => to === place || to.startsWith(`${place}/`)),
  );
  expect(strangers).toEqual([]);
});

test('the sagas know nothing of hypervisors, networks or processes', () => {
  const forbidden = /^(ovs|orchestrator\/(hypervisor|network|host|packet-buffer|api|cli|vm))\//;
  const strangers = importsOf('orchestrator/sagas').filter(({ to }) => forbidden.test(to));
  // What woke the VM is part of an unpark's input; a type, no code.
  expect(strangers.filter(({ to }) => to !== 'orchestrator/vm/state.ts')).toEqual([]);
});

function importsOf(folder: string): { from: string; to: string }[] {
  const entries = readdirSync(join(ROOT, folder), { recursive: true, withFileTypes: true });
  const files = entries.filter((entry) => entry.isFile() && entry.name.endsWith('.ts'));
  expect(files.length).toBeGreaterThan(0);
  return files.flatMap((entry) => {
    const path = join(entry.parentPath, entry.name);
    const imports = readFileSync(path, 'utf8').matchAll(/from '(\.[^']+)'/g);
    return [...imports].map(([, to = '']) => ({
      from: relative(ROOT, path),
      to: relative(ROOT, join(dirname(path), to)),
    }));
  });
}
