import { defineConfig } from 'vitest/config';

/** Real daemons, namespaces and VMs are shared by the host: files run one after the other. */
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    fileParallelism: false,
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 120_000,
    reporters: ['default', './test/summary-reporter.ts'],
  },
});
