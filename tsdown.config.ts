// dist/: the library as ESM (with the command line, sharing chunks) and as CommonJS, with types.
// Tests and benchmarks are not built here.
import { existsSync } from 'node:fs';
import { defineConfig, type UserConfig } from 'tsdown';

const index: Record<string, string> = existsSync('src/index.ts') ? { index: 'src/index.ts' } : {};
const cli: Record<string, string> = existsSync('src/cli/main.ts') ? { 'cli/main': 'src/cli/main.ts' } : {};

const common: UserConfig = {
  outDir: process.env.MACL_DIST ?? 'dist',
  platform: 'node',
  target: 'node20.19',
  fixedExtension: false,
  sourcemap: false,
  clean: false,
  logLevel: 'warn',
  // Readable stack traces, and licences stay in place.
  minify: false,
};

const esm = { ...index, ...cli };
export default defineConfig([
  ...(Object.keys(esm).length > 0 ? [{ ...common, entry: esm, format: 'esm', dts: false } satisfies UserConfig] : []),
  ...(index.index !== undefined
    ? ([
        { ...common, entry: index, format: 'esm', dts: { emitDtsOnly: true } },
        // nifti-reader-js is ESM only: inside the CommonJS build it is bundled.
        { ...common, entry: index, format: 'cjs', dts: true, shims: true, noExternal: ['nifti-reader-js', 'fflate'] },
      ] satisfies UserConfig[])
    : []),
]);
