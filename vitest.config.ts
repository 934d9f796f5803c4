import { defineConfig } from 'vitest/config';

/**
 * What shares nothing runs two files at a time, as many as a small machine has processors: unit tests, and labs of native VMs, which have
 * a name of their own each. Real daemons share the host, an emulated VM takes a processor, and what is judged by the clock wants both.
 */
const IN_QEMU = [
  'main-job',
  'switch-off',
  'crash-in-qemu',
  'wire/wire',
  'vm-agent/round-trip',
  'sink-server-vm',
];
const BY_THE_CLOCK = ['auto', 'gateways/gateways'];
const ALONE = [...IN_QEMU, ...BY_THE_CLOCK].map((name) => `test/e2e/${name}.test.ts`);
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
      group('native', 2, isOneLab ? 1 : AT_ONCE, ['test/e2e/**/*.test.ts'], ALONE),
      group('alone', 3, 1, ALONE),
    ],
  },
});

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
