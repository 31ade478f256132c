// TypeScript of bench/ and fuzz/ for Node 20, which does not run it: bundled from src as it is now.
import { build } from 'tsdown';
import { root } from './stamp.mjs';

/** @param more options of tsdown beside or instead of these */
export const bundle = (entry, outDir, more = {}) =>
  build({
    config: false,
    cwd: root,
    entry,
    outDir,
    format: 'esm',
    platform: 'node',
    target: 'node20.19',
    fixedExtension: false,
    dts: false,
    clean: false,
    logLevel: 'error',
    ...more,
  });
