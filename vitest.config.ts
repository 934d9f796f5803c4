import { defineConfig } from 'vitest/config';

/** Real daemons, namespaces and VMs are shared by the host, so files run one after the other outside `unit`. */
export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    fileParallelism: false,
    pool: 'forks',
    testTimeout: 30_000,
    hookTimeout: 120_000,
    reporters: ['default'],
  },
});
