/** The `reference` backend: float64, plain kernels, unfused; what the others are held against. Never chosen by `auto`. */
import { MaclError } from '../errors.js';
import { loadAddon } from './addon.js';
import { availableThreads } from './limits-node.js';
import { NativeBackend, threadsOf } from './native.js';
import type { Backend, BackendOptions, BackendReport } from './types.js';

export async function openReference(options: BackendOptions = {}): Promise<Backend> {
  const addon = loadAddon();
  const fusions = new Set(options.fusions ?? []);
  if (typeof addon !== 'string') {
    const table = addon.describe().tables.find((t) => t.isa === 'ref64');
    if (!table) throw new MaclError('device', 'reference: the addon has no table ref64');
    return new NativeBackend('reference', addon, table, threadsOf(options.threads, availableThreads), fusions);
  }
  throw new MaclError('device', `reference: ${addon}`);
}

export async function reportReference(): Promise<BackendReport> {
  const addon = loadAddon();
  if (typeof addon !== 'string')
    return {
      name: 'reference',
      available: true,
      isas: ['ref64'],
      reason: 'float64 in the native addon; never chosen by auto',
    };
  return { name: 'reference', available: false, isas: [], reason: addon };
}
