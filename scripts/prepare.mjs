// npm's `prepare` step: dist/ from src/ (tsdown) and dist/wasm from native/ (scripts/build-wasm.mjs). Each part is
// skipped when its inputs are unchanged, and left as it is where the tools for it are not installed
// (npm ci --omit=dev), with a line that says so.
//   --force  build although nothing changed      --quiet  say nothing when there was nothing to do
//   --typescript  not the WebAssembly modules
import { spawnSync } from 'node:child_process';
import { cpSync, existsSync, mkdirSync, readdirSync, rmSync, unlinkSync } from 'node:fs';
import path from 'node:path';
import { exclusively, filesUnder, installedVersion, readStamp, root, stampOf, writeStamp } from './stamp.mjs';

const force = process.argv.includes('--force');
const quiet = process.argv.includes('--quiet');
const say = (line) => process.stdout.write(`macl: ${line}\n`);
const seconds = (start) => `${((Date.now() - start) / 1000).toFixed(1)} s`;

/** Everything in dist/ but the WebAssembly modules, which have a stamp of their own. */
function replaceDist(fresh) {
  const dist = path.join(root, 'dist');
  mkdirSync(dist, { recursive: true });
  const made = new Set(readdirSync(fresh, { recursive: true, encoding: 'utf8' }));
  cpSync(fresh, dist, { recursive: true, force: true });
  for (const entry of readdirSync(dist, { recursive: true, withFileTypes: true })) {
    const relative = path.relative(dist, path.join(entry.parentPath ?? entry.path, entry.name));
    if (entry.isFile() && !relative.startsWith('wasm') && !relative.startsWith('.') && !made.has(relative)) {
      unlinkSync(path.join(dist, relative));
    }
  }
}

function buildTypeScript() {
  if (!existsSync(path.join(root, 'src'))) return undefined; // the published package: dist is all there is
  if (!filesUnder(['src']).some((file) => /^src\/(index|cli\/main)\.ts$/.test(file))) return undefined;
  const version = installedVersion('tsdown');
  const stamp = stampOf(['src', 'tsdown.config.ts', 'tsconfig.json', 'package.json', 'scripts/prepare.mjs'], [version]);
  if (!force && readStamp('dist/.stamp') === stamp) return undefined;
  if (!version) return 'TypeScript was not compiled: the development dependencies are not installed';
  const start = Date.now();
  const fresh = path.join(root, 'node_modules', `.macl-dist-${process.pid}`);
  try {
    const tool = path.join(root, 'node_modules', 'tsdown', 'dist', 'run.mjs');
    const env = { ...process.env, MACL_DIST: fresh, NO_COLOR: '1' };
    const made = spawnSync(process.execPath, [tool], { cwd: root, encoding: 'utf8', env });
    if (made.status !== 0 || !existsSync(fresh)) throw new Error(`tsdown failed\n${made.stdout}${made.stderr}`);
    replaceDist(fresh);
    writeStamp('dist/.stamp', stamp);
    return `compiled TypeScript in ${seconds(start)}`;
  } finally {
    rmSync(fresh, { recursive: true, force: true });
  }
}

async function buildWebAssembly() {
  if (filesUnder(['native/wasm']).every((file) => !file.endsWith('.cc'))) return undefined;
  const { buildWasm, wasmIsFresh } = await import('./build-wasm.mjs');
  const there = existsSync(path.join(root, 'dist', 'wasm', 'macl-simd.wasm'));
  if (!installedVersion('@yowasp/clang')) {
    return there ? undefined : 'WebAssembly was not compiled: the development dependencies are not installed';
  }
  if (!force && wasmIsFresh()) return undefined;
  const start = Date.now();
  return `compiled ${await buildWasm()} in ${seconds(start)}`;
}

await exclusively('prepare', async () => {
  let did = false;
  for (const part of process.argv.includes('--typescript') ? [buildTypeScript] : [buildTypeScript, buildWebAssembly]) {
    try {
      const line = await part();
      if (line !== undefined) say(line);
      did ||= line !== undefined;
    } catch (error) {
      did = true;
      process.stderr.write(`macl: ${error.message}\n`);
      process.exitCode = 1;
    }
  }
  if (!did && !quiet) say('dist is up to date');
});
