// Before the tests: bring dist/'s JavaScript up to date, because worker threads and the command line run from there (Node
// 20 does not run TypeScript); likewise the CUDA kernels for this processor, where tests of devices run and a compiler is.
// Quick when nothing changed. The addon and the WebAssembly modules take a minute, so they are not rebuilt here: a line
// says when they are not those of today's sources. MACL_TEST_NO_BUILD=1 does none of it.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { build, NoBuild } from './build-cuda.mjs';
import { wasmIsFresh } from './build-wasm.mjs';
import { addonIsFresh } from './install.mjs';
import { exclusively, root } from './stamp.mjs';

/** The tests of devices run the CUDA kernels on this processor: an addon that only they need. */
async function buildCudaHost(filters) {
  if (filters && !filters.some((filter) => /golden|backend/.test(filter))) return;
  try {
    const said = await exclusively('build-cuda', () => build(true));
    if (!said.endsWith('up to date')) process.stderr.write(`macl: ${said}\n`);
  } catch (error) {
    if (!(error instanceof NoBuild)) throw error;
    process.stderr.write(`macl: tests on cuda-host are skipped: ${error.message}\n`);
  }
}

export default async function setup(project) {
  if (process.env.MACL_TEST_NO_BUILD) return;
  const script = fileURLToPath(new URL('./prepare.mjs', import.meta.url));
  const { status } = spawnSync(process.execPath, [script, '--quiet', '--typescript'], { stdio: 'inherit' });
  if (status !== 0)
    process.stderr.write('macl: dist/ could not be brought up to date; tests that need it will say so\n');
  const warn = (what, script) => process.stderr.write(`macl: ${what} older than native/: npm run ${script}\n`);
  if (existsSync(path.join(root, 'build', 'Release')) && !addonIsFresh()) warn('the addon is', 'build:addon');
  if (!wasmIsFresh()) warn('the WebAssembly modules are', 'build:wasm');
  await buildCudaHost(project?.vitest?.filenamePattern);
}
