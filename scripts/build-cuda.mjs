// Builds the CUDA addon, build/cuda/macl_cuda.node, with nvcc and g++; with --host the same sources by g++ alone over the
// host executor of tests, build/cuda-host/macl_cuda_host.node. One way for both (CONTRIBUTING.md says why it is not CMake).
// Incremental: an object is made again when its command or a file that it read has changed.
//   CUDA_HOME         where the toolkit is (bin/nvcc): an installation, or nvidia/cu13 of the Python wheels; else PATH
//   MACL_CUDA_ARCHS   only these, for example "90a": a build for one machine in a sixth of the time
import { spawn, spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import {
  existsSync,
  mkdirSync,
  readFileSync,
  readdirSync,
  realpathSync,
  rmSync,
  statSync,
  writeFileSync,
} from 'node:fs';
import { createRequire } from 'node:module';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { exclusively, filesUnder, root } from './stamp.mjs';

const require = createRequire(import.meta.url);
/** Compute capability, and the first toolkit that knows it (100·major + minor). */
const ARCHS = [
  ['80', 1204],
  ['86', 1204],
  ['89', 1204],
  ['90a', 1204],
  ['100', 1208],
  ['120', 1208],
];
const OLDEST = 1204;
const NEWEST_MAJOR = 13;

export class NoBuild extends Error {}

/** nvcc and its version; throws NoBuild with the reason. */
export function toolkit(env = process.env) {
  const name = process.platform === 'win32' ? 'nvcc.exe' : 'nvcc';
  const homes = env.CUDA_HOME ? [env.CUDA_HOME] : [];
  const folders = homes.length > 0 ? homes.map((h) => path.join(h, 'bin')) : (env.PATH ?? '').split(path.delimiter);
  const found = folders.map((f) => path.join(f, name)).find((f) => existsSync(f));
  if (!found) {
    const where = homes.length > 0 ? `${homes[0]}/bin has no nvcc` : 'there is no nvcc in PATH';
    throw new NoBuild(`${where}: the CUDA backend needs the CUDA toolkit (set CUDA_HOME)`);
  }
  const nvcc = realpathSync(found);
  const said = spawnSync(nvcc, ['--version'], { encoding: 'utf8' });
  const version = /release (\d+)\.(\d+)/.exec(said.stdout ?? '');
  if (!version) throw new NoBuild(`${nvcc} does not say its version: ${said.stderr || said.error?.message || ''}`);
  const [major, minor] = [Number(version[1]), Number(version[2])];
  const number = 100 * major + minor;
  if (number < OLDEST || major > NEWEST_MAJOR)
    throw new NoBuild(`${nvcc} is CUDA ${major}.${minor}; 12.4 to ${NEWEST_MAJOR} are needed`);
  const home = path.resolve(nvcc, '../..');
  const lib = ['lib64', 'lib', 'targets/x86_64-linux/lib', 'targets/sbsa-linux/lib']
    .map((l) => path.join(home, l))
    .find((l) => existsSync(path.join(l, 'libcudart_static.a')));
  if (!lib) throw new NoBuild(`${home} has no libcudart_static.a (of the CUDA runtime's package)`);
  const include = [path.join(home, 'include'), path.join(home, 'targets/x86_64-linux/include')].find((i) =>
    existsSync(path.join(i, 'cuda_runtime.h')),
  );
  if (!include) throw new NoBuild(`${home} has no include/cuda_runtime.h (of the CUDA runtime's package)`);
  return { nvcc, lib, include, number, version: `${major}.${minor}` };
}

/** nvcc's -gencode flags: code for each architecture that the toolkit knows, and PTX of the newest for those to come. */
export function gencode(number, only) {
  const known = ARCHS.filter(([, since]) => number >= since).map(([arch]) => arch);
  const wanted = only ? only.split(/[\s,;]+/).filter(Boolean) : known;
  const strange = wanted.filter((arch) => !known.includes(arch));
  if (strange.length > 0 || wanted.length === 0)
    throw new NoBuild(`MACL_CUDA_ARCHS: ${only}; this toolkit makes ${known.join(', ')}`);
  const flags = wanted.flatMap((arch) => ['-gencode', `arch=compute_${arch},code=sm_${arch}`]);
  if (only) return flags;
  // PTX of 90a runs on 9.0 alone.
  const newest = wanted.at(-1).replace(/\D$/, '');
  return [...flags, '-gencode', `arch=compute_${newest},code=compute_${newest}`];
}

function nodeHeaders() {
  const own = path.resolve(process.execPath, '../../include/node');
  if (existsSync(path.join(own, 'node_api.h'))) return own;
  const folders = [process.env.npm_config_nodedir, process.env.NODE_GYP_NODEDIR].filter(Boolean);
  const given = folders.map((f) => path.join(f, 'include', 'node')).find((f) => existsSync(path.join(f, 'node_api.h')));
  if (given) return given;
  try {
    return require('node-api-headers').include_dir;
  } catch {
    throw new NoBuild(`Node's headers are not beside ${process.execPath} (set npm_config_nodedir)`);
  }
}

function compiler() {
  const [program, ...words] = (process.env.CXX || 'g++').trim().split(/\s+/);
  const probe = spawnSync(program, [...words, '-std=c++20', '-x', 'c++', '-fsyntax-only', '-'], {
    input: '#include <atomic>\nint main() { return 0; }\n',
    encoding: 'utf8',
  });
  if (probe.error || probe.status !== 0) throw new NoBuild(`no C++ compiler for C++20 (${program})`);
  return [program, ...words];
}

/** The objects of one of the two addons: name, source, command without its output. */
function plan(host) {
  const cxx = compiler();
  const kit = host ? null : toolkit();
  const common = ['-fPIC', '-fvisibility=hidden', '-Wall', '-Wno-psabi', '-Inative'];
  const optimise = host ? ['-O1', '-ffp-contract=off'] : ['-O2'];
  const cpp = [...cxx, '-std=c++20', ...optimise, ...common, '-c'];
  const napi = ['-DNAPI_VERSION=8', '-DNAPI_CPP_EXCEPTIONS', '-DNODE_ADDON_API_DISABLE_DEPRECATED'];
  const headers = [`-I${nodeHeaders()}`, `-I${require('node-addon-api').include_dir}`];
  const nvcc = kit && [
    kit.nvcc,
    ...['-x', 'cu', '-std=c++17', '-O3', '--cudart', 'static', '-Xcompiler', common.slice(0, 4).join(','), '-Inative'],
    ...gencode(kit.number, process.env.MACL_CUDA_ARCHS),
    '-c',
  ];
  const executor = [...cxx, '-x', 'c++', '-std=c++17', ...optimise, ...common, '-c'];
  const objects = [];
  const add = (source, command) => objects.push({ source, command: [...command, source] });

  for (const file of filesUnder(['native/cuda'])) {
    const isHost = file.startsWith('native/cuda/host/');
    if (isHost && !host) continue;
    if (file.endsWith('.cu')) add(file, host ? executor : nvcc);
    else if (file.endsWith('_cuda.cc') && host) continue;
    else if (file.endsWith('_cuda.cc')) add(file, [...cpp, `-I${kit.include}`]);
    else if (file.endsWith('machine.cc')) add(file, [...cpp, ...napi, ...headers]);
    else if (file.endsWith('.cc')) add(file, cpp);
  }
  add('native/napi/addon.cc', [...cpp, ...napi, ...headers]);
  for (const file of filesUnder(['native/engine'])) if (/(program|walk|session_posix)\.cc$/.test(file)) add(file, cpp);
  // Signatures and checks come from the plain host kernels; they do not run here.
  add('native/kernels/table.cc', [...cpp, '-DMACL_ISA=plain', '-DMACL_ISA_PLAIN', '-Wno-unused-function']);
  const libraries = kit ? [path.join(kit.lib, 'libcudart_static.a'), '-lpthread', '-ldl', '-lrt'] : ['-lpthread'];
  const link = [
    ...cxx,
    '-shared',
    ...(process.platform === 'darwin' ? ['-undefined', 'dynamic_lookup'] : ['-Wl,-Bsymbolic']),
  ];
  return { objects, link, libraries, kit };
}

const run = (command) =>
  new Promise((resolve) => {
    const child = spawn(command[0], command.slice(1), { cwd: root, stdio: ['ignore', 'pipe', 'pipe'] });
    let said = '';
    child.stdout.on('data', (d) => (said += d));
    child.stderr.on('data', (d) => (said += d));
    child.on('error', (error) => resolve({ status: 1, said: error.message }));
    child.on('close', (status) => resolve({ status, said }));
  });

/** Made of today's command and files? `deps` is the compiler's own list of what it read. */
function isFresh(object, deps, key) {
  if (!existsSync(object) || !existsSync(deps) || !existsSync(`${object}.cmd`)) return false;
  if (readFileSync(`${object}.cmd`, 'utf8') !== key) return false;
  const made = statSync(object).mtimeMs;
  const read = readFileSync(deps, 'utf8').replace(/\\\n/g, ' ').split(':').slice(1).join(':').trim().split(/\s+/);
  return read.every(
    (file) => (statSync(path.resolve(root, file), { throwIfNoEntry: false })?.mtimeMs ?? Infinity) <= made,
  );
}

/** Builds one of the two; returns what it did in words. Throws NoBuild with the reason. */
export async function build(host, say = () => {}) {
  const start = Date.now();
  const { objects, link, libraries, kit } = plan(host);
  const folder = path.join('build', host ? 'cuda-host' : 'cuda');
  const made = path.join(folder, host ? 'macl_cuda_host.node' : 'macl_cuda.node');
  mkdirSync(path.join(root, folder, 'obj'), { recursive: true });
  const todo = [];
  const names = [];
  for (const { source, command } of objects) {
    const object = path.join(folder, 'obj', `${source.replace(/^native\//, '').replaceAll('/', '-')}.o`);
    const deps = `${object}.d`;
    const key = createHash('sha256').update(command.join('\0')).digest('hex');
    names.push(object);
    if (!isFresh(path.join(root, object), path.join(root, deps), key))
      todo.push({ source, command, object, deps, key });
  }
  const absent = new Set(names.map((n) => path.basename(n)));
  const old = readdirSync(path.join(root, folder, 'obj')).filter((f) => f.endsWith('.o') && !absent.has(f));
  for (const f of old) rmSync(path.join(root, folder, 'obj', f));
  const total = todo.length;
  if (total === 0 && old.length === 0 && existsSync(path.join(root, made))) return `${made} is up to date`;
  const failed = [];
  const worker = async () => {
    for (let job = todo.shift(); job && failed.length === 0; job = todo.shift()) {
      rmSync(path.join(root, `${job.object}.cmd`), { force: true });
      const { status, said } = await run([...job.command, '-MMD', '-MF', job.deps, '-o', job.object]);
      if (said.trim() !== '') say(said.trimEnd());
      if (status !== 0) failed.push(`${job.source}: ${/.*error.*/.exec(said)?.[0] ?? said.trim().split('\n')[0]}`);
      else writeFileSync(path.join(root, `${job.object}.cmd`), job.key);
    }
  };
  await Promise.all(Array.from({ length: Math.max(1, os.availableParallelism()) }, worker));
  if (failed.length > 0) throw new NoBuild(failed[0]);
  const { status, said } = await run([...link, '-o', made, ...names, ...libraries]);
  if (status !== 0) throw new NoBuild(`linking: ${said.trim()}`);
  const loads = spawnSync(process.execPath, ['-e', `require(${JSON.stringify(path.join(root, made))})`], {
    encoding: 'utf8',
  });
  if (loads.status !== 0)
    throw new NoBuild(`${made} does not load: ${/Error: .*/.exec(loads.stderr ?? '')?.[0] ?? loads.stderr}`);
  const by = kit ? ` by CUDA ${kit.version}` : '';
  return `built ${made}${by}: ${total} of ${names.length} objects in ${((Date.now() - start) / 1000).toFixed(0)} s`;
}

async function main() {
  const host = process.argv.includes('--host');
  try {
    process.stdout.write(`macl: ${await build(host, (text) => process.stderr.write(`${text}\n`))}\n`);
  } catch (error) {
    if (!(error instanceof NoBuild)) throw error;
    process.stderr.write(`macl: no ${host ? 'cuda-host' : 'CUDA'} addon: ${error.message}\n`);
    process.exitCode = 1;
  }
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) await exclusively('build-cuda', main);
