/** The `cpu` backend: the native addon with the best instruction set that this processor has, or the one asked for. */
import { MaclError } from '../errors.js';
import { loadAddon } from './addon.js';
import { availableThreads, freeBytes } from './limits-node.js';
import { NativeBackend } from './native.js';
import { threadsOf } from './threads.js';
import { FUSIONS, type Backend, type BackendOptions, type BackendReport } from './types.js';
import { counted } from '../words.js';

/** Throws `device` with the reason. */
export function openCpu(options: BackendOptions = {}): Backend {
  const addon = loadAddon();
  if (typeof addon === 'string') throw new MaclError('device', `cpu: ${addon}`);
  const tables = addon.describe().tables.filter((t) => t.isa !== 'ref64');
  const isa = options.isa ?? tables.find((t) => t.supported)?.isa ?? '';
  const table = tables.find((t) => t.isa === isa);
  if (!table || !table.supported) {
    const have = tables.filter((t) => t.supported).map((t) => t.isa);
    const why = table ? `this processor lacks ${table.needs}` : 'there is none of that name';
    throw new MaclError('device', `cpu: instruction set ${isa}: ${why} (there are ${have.join(', ')})`, {
      field: 'isa',
      expected: have,
      found: isa,
    });
  }
  const threads = threadsOf(options.threads, availableThreads);
  const fusions = new Set(options.fusions ?? FUSIONS);
  return new NativeBackend({ name: 'cpu', addon, table, threads, unit: threads, fusions, freeBytes });
}

export function reportCpu(): BackendReport {
  const addon = loadAddon();
  if (typeof addon === 'string') return { name: 'cpu', available: false, isas: [], reason: addon };
  const tables = addon.describe().tables.filter((t) => t.isa !== 'ref64');
  const isas = tables.filter((t) => t.supported).map((t) => t.isa);
  const lacking = tables.filter((t) => !t.supported).map((t) => `${t.isa} needs ${t.needs}`);
  const reason = `native addon, ${isas[0]}, ${counted(availableThreads(), 'thread')}${lacking.length > 0 ? `; ${lacking.join('; ')}` : ''}`;
  return { name: 'cpu', available: true, isas, reason };
}
