// npm's `install` step: builds the addon with node-gyp where a C++ compiler is, loads it once in a child process, and
// says in one line what it did. It never fails the installation: without the addon everything runs on WebAssembly.
//   --force    build although nothing changed      --verbose  show what the compiler says
import { spawnSync } from 'node:child_process';
import { existsSync, readdirSync, rmSync } from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { exclusively, filesUnder, readStamp, root, stampOf, writeStamp } from './stamp.mjs';

const STAMP = 'build/.stamp';
const INPUTS = ['binding.gyp', 'scripts/sources.mjs', 'native/ops', 'native/kernels', 'native/engine', 'native/napi'];
const force = process.argv.includes('--force');
const verbose = process.argv.includes('--verbose');
const require = createRequire(import.meta.url);

const say = (line) => process.stdout.write(`macl: ${line}\n`);
/** The addon and what node-gyp leaves; not the CUDA builds that lie beside it (build-cuda.mjs). */
function removeBuild() {
  const folder = path.join(root, 'build');
  if (!existsSync(folder)) return;
  for (const name of readdirSync(folder))
    if (!/^cuda(-host)?$/.test(name)) rmSync(path.join(folder, name), { recursive: true, force: true });
}

class NoAddon extends Error {}

/** The compiler as node-gyp's makefiles choose it; asked first, because its absence is the usual reason. */
function checkCompiler() {
  const cxx = (process.env.CXX || (process.platform === 'darwin' ? 'c++' : 'g++')).trim();
  const [program, ...words] = cxx.split(/\s+/);
  const probe = spawnSync(program, [...words, '-std=c++20', '-x', 'c++', '-fsyntax-only', '-'], {
    input: '#include <atomic>\n#include <thread>\nint main() { return 0; }\n',
    encoding: 'utf8',
    timeout: 60_000,
  });
  if (probe.error?.code === 'ENOENT') throw new NoAddon(`no C++ compiler (${cxx} was not found)`);
  if (probe.status !== 0) throw new NoAddon(`the C++ compiler ${cxx} fails`);
}

function nodeGyp() {
  try {
    return require.resolve('node-gyp/bin/node-gyp.js');
  } catch {
    if (process.env.npm_config_node_gyp) return process.env.npm_config_node_gyp;
    const beside = path.resolve(process.execPath, '../../lib/node_modules/npm/node_modules/node-gyp/bin/node-gyp.js');
    if (existsSync(beside)) return beside;
    throw new NoAddon('node-gyp was not found');
  }
}

/** A folder with Node's own headers, so that nothing is downloaded. node-gyp takes a wrong one as a hard error. */
function nodeDir() {
  const candidates = [
    process.env.npm_config_nodedir,
    process.env.NODE_GYP_NODEDIR,
    path.resolve(process.execPath, '../..'),
  ];
  const isWhole = (dir) =>
    ['node_api.h', 'common.gypi'].every((file) => existsSync(path.join(dir, 'include', 'node', file)));
  return candidates.find((dir) => dir && isWhole(dir));
}

function build() {
  if (process.platform === 'win32') throw new NoAddon('there is no addon for Windows yet');
  checkCompiler();
  const gyp = nodeGyp();
  const dir = nodeDir();
  removeBuild();
  // Not `rebuild`: it removes the whole folder.
  const args = [gyp, 'configure', 'build', `--jobs=${os.availableParallelism()}`, ...(dir ? [`--nodedir=${dir}`] : [])];
  const env = { ...process.env, npm_config_loglevel: verbose ? 'info' : 'error' };
  const made = spawnSync(process.execPath, args, {
    cwd: root,
    env,
    encoding: 'utf8',
    timeout: 900_000,
    stdio: verbose ? ['ignore', 2, 2] : ['ignore', 'pipe', 'pipe'],
    maxBuffer: 1 << 28,
  });
  if (made.error || made.status !== 0) {
    const reason = /(?:fatal )?error:? .*|gyp ERR! stack .*/.exec(made.stderr ?? '')?.[0];
    throw new NoAddon(`the addon's build failed${reason ? ` (${reason.trim()})` : ''}`);
  }
  const addon = path.join(root, 'build', 'Release', 'macl.node');
  const loaded = spawnSync(process.execPath, ['-e', `require(${JSON.stringify(addon)})`], {
    encoding: 'utf8',
    timeout: 60_000,
  });
  if (loaded.status !== 0) {
    const reason = /Error: .*/.exec(loaded.stderr ?? '')?.[0] ?? `it ended with ${loaded.signal ?? loaded.status}`;
    throw new NoAddon(`the addon was built but does not load (${reason})`);
  }
}

function addonStamp() {
  const words = [process.platform, process.arch, process.env.CC ?? '', process.env.CXX ?? ''];
  return stampOf([...INPUTS, 'scripts/install.mjs'], words);
}

/** Is there an addon, and is it that of today's sources and this compiler? */
export function addonIsFresh() {
  return existsSync(path.join(root, 'build', 'Release', 'macl.node')) && readStamp(STAMP) === addonStamp();
}

async function main() {
  if (filesUnder(['native/napi']).length === 0) return say('no native sources here; macl will run on WebAssembly');
  if (!force && addonIsFresh()) return say('the native addon is up to date');
  const stamp = addonStamp();
  const start = Date.now();
  try {
    build();
    writeStamp(STAMP, stamp);
    say(`built the native addon in ${((Date.now() - start) / 1000).toFixed(0)} s`);
  } catch (error) {
    removeBuild();
    const reason = error instanceof NoAddon ? error.message : `the addon's build failed (${error.message})`;
    say(`${reason}: no native addon, macl will run on WebAssembly, more slowly`);
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await exclusively('install', main);
