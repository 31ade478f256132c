/**
 * The `reference` backend: float64, plain kernels, unfused; what the others are held against. From the addon where it is
 * there, else from WebAssembly, so that it is on every machine. Never chosen by `auto`.
 */
import { loadAddon } from './addon.js';
import { availableThreads, freeBytes } from './limits-node.js';
import { NativeBackend } from './native.js';
import { threadsOf } from './threads.js';
import type { Backend, BackendOptions, BackendReport } from './types.js';
import { openWasmReference, reportWasm } from './wasm.js';
import { nodePlatform } from './wasm-platform-node.js';

export async function openReference(options: BackendOptions = {}): Promise<Backend> {
  const addon = loadAddon();
  const table = typeof addon === 'string' ? undefined : addon.describe().tables.find((t) => t.isa === 'ref64');
  if (typeof addon === 'string' || !table) return openWasmReference(nodePlatform, options);
  const threads = threadsOf(options.threads, availableThreads);
  const fusions = new Set(options.fusions ?? []);
  return new NativeBackend({ name: 'reference', addon, table, threads, unit: threads, fusions, freeBytes });
}

export async function reportReference(): Promise<BackendReport> {
  const what = 'float64 and plain, to hold the others against; never chosen by auto';
  if (typeof loadAddon() !== 'string') {
    return { name: 'reference', available: true, isas: ['ref64'], reason: `${what}; in the native addon` };
  }
  const wasm = await reportWasm(nodePlatform);
  if (!wasm.available) return { name: 'reference', available: false, isas: [], reason: wasm.reason };
  return { name: 'reference', available: true, isas: ['ref64'], reason: `${what}; in WebAssembly` };
}
