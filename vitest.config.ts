// Tests run in forked processes (an addon that crashes takes one file down, not the run), two at a time: most of them
// keep a core busy by themselves. Nothing is timed, so the limits are generous.
import { defineConfig } from 'vitest/config';

export default defineConfig({
  test: {
    include: ['test/**/*.test.ts'],
    pool: 'forks',
    maxWorkers: 2,
    testTimeout: 300_000,
    hookTimeout: 300_000,
    globalSetup: ['./scripts/test-setup.mjs'],
    reporters: ['default', './scripts/totals-reporter.mjs'],
  },
});
