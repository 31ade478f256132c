/**
 * Where the package's own files lie: the addons and the WebAssembly modules. The same from src (tests),
 * from dist as ESM and as CommonJS, and from inside node_modules. Not for data or runs. Uses Node modules: nothing that
 * must run in a browser may import it.
 */
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { MaclError } from './errors.js';

let cachedRoot: string | undefined;

/** Absolute path of the folder that holds macl's own package.json. Throws `state` if the package is not whole. */
export function packageRoot(): string {
  if (cachedRoot !== undefined) return cachedRoot;
  const start = path.dirname(fileURLToPath(import.meta.url));
  for (let folder = start; ; folder = path.dirname(folder)) {
    const file = path.join(folder, 'package.json');
    if (existsSync(file) && (JSON.parse(readFileSync(file, 'utf8')) as { name?: string }).name === 'macl') {
      cachedRoot = folder;
      return folder;
    }
    if (path.dirname(folder) === folder) break;
  }
  throw new MaclError('state', `macl: its own package.json was not found above ${start}`, { file: start });
}

/** The version in package.json. */
export function packageVersion(): string {
  return (JSON.parse(readFileSync(path.join(packageRoot(), 'package.json'), 'utf8')) as { version: string }).version;
}

/** The native addon, which is there only if a compiler was (scripts/install.mjs builds it). */
export function addonPath(): string {
  return path.join(packageRoot(), 'build', 'Release', 'macl.node');
}

/** The CUDA addon, or its twin for tests on this processor (scripts/build-cuda.mjs builds them). */
export function cudaAddonPath(host: boolean): string {
  const [folder, file] = host ? ['cuda-host', 'macl_cuda_host.node'] : ['cuda', 'macl_cuda.node'];
  return path.join(packageRoot(), 'build', folder, file);
}

/** A WebAssembly module: `simd` needs SIMD128 and threads only, `relaxed` relaxed SIMD as well. */
export function wasmPath(name: 'simd' | 'relaxed'): string {
  return path.join(packageRoot(), 'dist', 'wasm', `macl-${name}.wasm`);
}
