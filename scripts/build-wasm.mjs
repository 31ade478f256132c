// Compiles native/ to dist/wasm/macl-simd.wasm and dist/wasm/macl-relaxed.wasm with clang from npm (@yowasp/clang, itself
// WebAssembly): no compiler on the machine is needed. Each module holds the kernel tables `wasm`, `plain` and `ref64`,
// the engine and the exports. Run alone it always builds; scripts/prepare.mjs asks first whether anything changed.
import { mkdirSync, readFileSync, renameSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { filesUnder, root } from './stamp.mjs';

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

/** Which files a build reads: for the stamp, and what is handed to the compiler. */
export const wasmInputs = ['native/ops', 'native/kernels', 'native/engine', 'native/wasm', 'scripts/build-wasm.mjs'];

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

export async function buildWasm() {
  const { runClang, runLLVM } = await import('@yowasp/clang');
  await runLLVM(null, {}, { fetchProgress: () => {} }); // quietly: its progress would go to stdout
  const tree = nativeTree();
  const log = [];
  const stderr = (bytes) => bytes && log.push(Buffer.from(bytes));

  async function run(argv, files) {
    log.length = 0;
    try {
      return await runClang(argv, files, { stdout: stderr, stderr });
    } catch (error) {
      throw new Error(`${argv.slice(0, 3).join(' ')} … failed\n${Buffer.concat(log)}${error.message ?? ''}`, {
        cause: error,
      });
    }
  }
  async function compile(source, object, flags) {
    const out = await run(['clang++', ...COMPILE, ...flags, '-c', source, '-o', object], tree);
    return out[object];
  }

  const common = {};
  for (const isa of ['plain', 'ref64']) {
    const flags = [`-DMACL_ISA=${isa}`, `-DMACL_ISA_${isa.toUpperCase()}`];
    common[`${isa}.o`] = await compile('native/kernels/table.cc', `${isa}.o`, flags);
  }
  for (const source of [...engineSources(), ...sourcesIn('native/wasm')]) {
    const object = `${source.replaceAll('/', '_').replace(/\.cc$/, '')}.o`;
    common[object] = await compile(source, object, []);
  }

  const built = [];
  for (const [name, extra] of [
    ['macl-simd.wasm', []],
    ['macl-relaxed.wasm', ['-mrelaxed-simd', '-DMACL_RELAXED']],
  ]) {
    const flags = ['-DMACL_ISA=wasm', '-DMACL_ISA_WASM', ...extra];
    const objects = { ...common, 'wasm.o': await compile('native/kernels/table.cc', 'wasm.o', flags) };
    const out = await run(['clang++', ...LINK, ...Object.keys(objects), '-o', name], objects);
    built.push([name, out[name]]);
  }
  const folder = path.join(root, 'dist', 'wasm');
  mkdirSync(folder, { recursive: true });
  for (const [name, bytes] of built) {
    // Published by rename: a test that is starting never reads half a module.
    writeFileSync(path.join(folder, `.${name}.${process.pid}`), bytes);
    renameSync(path.join(folder, `.${name}.${process.pid}`), path.join(folder, name));
  }
  return built.map(([name, bytes]) => `${name} ${Math.ceil(bytes.length / 1024)} KiB`).join(', ');
}

if (import.meta.url === pathToFileURL(process.argv[1] ?? '').href) {
  const start = Date.now();
  process.stdout.write(`macl: ${await buildWasm()} in ${((Date.now() - start) / 1000).toFixed(1)} s\n`);
}
