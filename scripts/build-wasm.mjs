// Compiles native/ to dist/wasm/macl-simd.wasm and dist/wasm/macl-relaxed.wasm with clang from npm (@yowasp/clang, itself
// WebAssembly): no compiler on the machine is needed. Each module holds the kernel tables `wasm`, `plain` and `ref64`,
// the engine and the exports. Run alone it always builds; scripts/prepare.mjs asks first whether anything changed.
import { existsSync, mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { isMainThread, parentPort, Worker } from 'node:worker_threads';
import { filesUnder, installedVersion, readStamp, root, stampOf, writeStamp } from './stamp.mjs';

const COMPILE = [
  ...[
    '-std=c++20',
    '-O3',
    '-ffp-contract=fast',
    '-fno-math-errno',
    '-fno-exceptions',
    '-fno-rtti',
    '-fvisibility=hidden',
  ],
  ...['-Wall', '-Wextra', '-Wno-unused-function', '-Wno-unused-parameter', '-DMACL_WASM', '-Inative'],
  ...['-msimd128', '-matomics', '-mbulk-memory', '-mmutable-globals'],
];
const LINK = [
  ...['-nostartfiles', '-matomics', '-mbulk-memory', '-Wl,--no-entry', '-Wl,--import-memory', '-Wl,--shared-memory'],
  ...['-Wl,--max-memory=4294967296', '-Wl,--stack-first', '-Wl,-z,stack-size=1048576', '-Wl,--strip-all'],
  ...['__stack_pointer', '__heap_base', '__wasm_init_tls', '__tls_size', '__tls_align'].map((s) => `-Wl,--export=${s}`),
];

const STAMP = 'dist/wasm/.stamp';
const wasmStamp = () => stampOf(wasmInputs, [installedVersion('@yowasp/clang')]);

/** Which files a build reads: for the stamp, and what is handed to the compiler. */
const wasmInputs = ['native/ops', 'native/kernels', 'native/engine', 'native/wasm', 'scripts/build-wasm.mjs'];

/**
 * The compiler takes its files as a tree of names, and cannot follow `..` in it: `../ops/x.h` becomes `ops/x.h`, found
 * by -Inative.
 */
export function nativeTree(folders = wasmInputs.filter((entry) => entry.startsWith('native/'))) {
  const tree = {};
  for (const file of filesUnder(folders)) {
    const parts = file.split('/');
    let folder = tree;
    for (const part of parts.slice(0, -1)) folder = folder[part] ??= {};
    const text = readFileSync(path.join(root, file), 'utf8');
    folder[parts.at(-1)] = text.replace(/^(\s*#\s*include\s+")\.\.\//gm, '$1');
  }
  return tree;
}

const sourcesIn = (folder) => filesUnder([folder]).filter((file) => file.endsWith('.cc'));

/** Engine files that need an operating system end in _posix.cc. */
const engineSources = () => sourcesIn('native/engine').filter((file) => !file.endsWith('_posix.cc'));

/** Runs clang on a tree of files; the error of a failed run holds what clang said. */
async function clang(argv, files) {
  const { runClang, runLLVM } = await import('@yowasp/clang');
  await runLLVM(null, {}, { fetchProgress: () => {} }); // quietly: its progress would go to stdout
  const said = [];
  const hear = (bytes) => bytes && said.push(Buffer.from(bytes));
  try {
    return await runClang(argv, files, { stdout: hear, stderr: hear });
  } catch (error) {
    const text = `${argv.slice(0, 2).join(' ')} … failed\n${Buffer.concat(said)}${error.message ?? ''}`;
    throw new Error(text, { cause: error });
  }
}

/** Compiles everything, [object, source, flags] each, on as many threads as there is memory for (half a GiB each). */
async function compileAll(jobs) {
  const threads = Math.max(1, Math.min(4, os.availableParallelism(), Math.floor(os.freemem() / 2 ** 30), jobs.length));
  const tree = nativeTree();
  const objects = {};
  const waiting = [...jobs];
  const workers = Array.from({ length: threads }, () => new Worker(new URL(import.meta.url)));
  const serve = (worker) =>
    new Promise((resolve, reject) => {
      const next = () => {
        const job = waiting.shift();
        if (job === undefined) return resolve();
        const [object, source, flags] = job;
        worker.postMessage({ argv: ['clang++', ...COMPILE, ...flags, '-c', source, '-o', object], tree, object });
      };
      worker.on('message', ({ object, bytes, error }) => {
        if (error !== undefined) return reject(new Error(error));
        objects[object] = bytes;
        next();
      });
      worker.on('error', reject);
      next();
    });
  try {
    await Promise.all(workers.map(serve));
  } finally {
    await Promise.all(workers.map((worker) => worker.terminate()));
  }
  return objects;
}

/** Builds both modules and returns a sentence about them. */
export async function buildWasm() {
  const stamp = wasmStamp(); // of what is read now, should a source change meanwhile
  const table = 'native/kernels/table.cc';
  const isa = (name, ...flags) => [`-DMACL_ISA=${name}`, `-DMACL_ISA_${name.toUpperCase()}`, ...flags];
  const common = [
    ['plain.o', table, isa('plain')],
    ['ref64.o', table, isa('ref64')],
    ...[...engineSources(), ...sourcesIn('native/wasm')].map((source) => [
      `${source.replaceAll('/', '_').replace(/\.cc$/, '')}.o`,
      source,
      [],
    ]),
  ];
  const fast = [
    ['macl-relaxed.o', table, isa('wasm', '-mrelaxed-simd', '-DMACL_RELAXED')],
    ['macl-simd.o', table, isa('wasm')],
  ];
  const objects = await compileAll([...fast, ...common]); // the longest first

  const built = [];
  for (const [name] of fast) {
    const files = Object.fromEntries([name, ...common.map(([object]) => object)].map((o) => [o, objects[o]]));
    const module = name.replace(/o$/, 'wasm');
    built.push([module, (await clang(['clang++', ...LINK, ...Object.keys(files), '-o', module], files))[module]]);
  }
  const folder = path.join(root, 'dist', 'wasm');
  mkdirSync(folder, { recursive: true });
  for (const [name, bytes] of built) {
    // Published by rename: a test that is starting never reads half a module.
    writeFileSync(path.join(folder, `.${name}.${process.pid}`), bytes);
    renameSync(path.join(folder, `.${name}.${process.pid}`), path.join(folder, name));
  }
  writeStamp(STAMP, stamp);
  return built.map(([name, bytes]) => `${name} ${Math.ceil(bytes.length / 1024)} KiB`).join(', ');
}

/** Are there modules, and are they those of today's sources? */
export function wasmIsFresh() {
  const there = ['simd', 'relaxed'].every((name) => existsSync(path.join(root, 'dist', 'wasm', `macl-${name}.wasm`)));
  return there && readStamp(STAMP) === wasmStamp();
}

if (!isMainThread) {
  parentPort.on('message', ({ argv, tree, object }) => {
    clang(argv, tree).then(
      (out) => parentPort.postMessage({ object, bytes: out[object] }),
      (error) => parentPort.postMessage({ object, error: error.message }),
    );
  });
} else if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const start = Date.now();
  process.stdout.write(`macl: ${await buildWasm()} in ${((Date.now() - start) / 1000).toFixed(1)} s\n`);
}
