import { defineConfig } from 'vitest/config';

/**
 * What shares nothing runs two files at a time, as many as a small machine has processors: unit tests, labs of native VMs, which have a
 * name of their own each, and what has one emulated VM, which takes a processor. Real daemons share the host, and what is judged by the
 * clock, or has two emulated machines, wants both processors.
 */
const EMULATED = named('crash-in-qemu', 'wire/wire', 'vm-agent/round-trip');
const ALONE = named('main-job', 'switch-off', 'sink-server-vm', 'auto', 'gateways/gateways');
const OPENSTACK = 'test/openstack/**/*.test.ts';
const AT_ONCE = 2;
/** One lab for all that is run: by hand, to look at it. */
const isOneLab = Boolean(process.env['SEAMLESS_LAB']);

export default defineConfig({
  test: {
    reporters: ['default', './test/summary-reporter.ts'],
    projects: [
      group('unit', 0, AT_ONCE, ['test/unit/**/*.test.ts']),
      group('integration', 1, 1, ['test/integration/**/*.test.ts', OPENSTACK]),
      group('native', 2, isOneLab ? 1 : AT_ONCE, ['test/e2e/**/*.test.ts'], [...EMULATED, ...ALONE]),
      group('emulated', 3, isOneLab ? 1 : AT_ONCE, EMULATED),
      group('alone', 4, 1, ALONE),
    ],
  },
});

function named(...names: string[]): string[] {
  return names.map((name) => `test/e2e/${name}.test.ts`);
}

function group(
  name: string,
  groupOrder: number,
  maxWorkers: number,
  include: string[],
  exclude: string[] = [],
) {
  return {
    test: {
      ...{ name, include, exclude, maxWorkers, sequence: { groupOrder } },
      ...{ pool: 'forks' as const, testTimeout: 30_000, hookTimeout: 120_000 },
    },
  };
}
