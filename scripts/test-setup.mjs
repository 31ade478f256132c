// Before the tests: bring dist/'s JavaScript up to date, because worker threads and the command line run from there (Node
// 20 does not run TypeScript). Quick when nothing changed. The addon and the WebAssembly modules take a minute, so they
// are not rebuilt here: a line says when they are not those of today's sources. MACL_TEST_NO_BUILD=1 does neither.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { wasmIsFresh } from './build-wasm.mjs';
import { addonIsFresh } from './install.mjs';
import { root } from './stamp.mjs';

export default function setup() {
  if (process.env.MACL_TEST_NO_BUILD) return;
  const script = fileURLToPath(new URL('./prepare.mjs', import.meta.url));
  const { status } = spawnSync(process.execPath, [script, '--quiet', '--typescript'], { stdio: 'inherit' });
  if (status !== 0)
    process.stderr.write('macl: dist/ could not be brought up to date; tests that need it will say so\n');
  const warn = (what, script) => process.stderr.write(`macl: ${what} older than native/: npm run ${script}\n`);
  if (existsSync(path.join(root, 'build', 'Release')) && !addonIsFresh()) warn('the addon is', 'build:addon');
  if (!wasmIsFresh()) warn('the WebAssembly modules are', 'build:wasm');
}
