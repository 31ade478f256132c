/**
 * The one place where a backend is chosen, and where it is said why. An explicit device opens or fails with the reason;
 * `auto` takes the first that works of cuda, cpu, wasm.
 */
import { MaclError } from '../errors.js';
import { openCpu, reportCpu } from './cpu.js';
import { openCuda, reportCuda } from './cuda.js';
import { openReference, reportReference } from './reference.js';
import { openWasm, reportWasm } from './wasm.js';
import { nodePlatform } from './wasm-platform-node.js';
import type { Backend, BackendName, BackendOptions, BackendReport, DeviceName } from './types.js';

const AUTO_ORDER = ['cuda', 'cpu', 'wasm'] as const;

/** `cuda:1` → cuda and 1. */
function parsed(device: Exclude<DeviceName, 'auto'>): { name: BackendName; index: number } {
  const [, name = device, index = '0'] = /^(cuda|cuda-host):(\d{1,4})$/.exec(device) ?? [];
  return { name: name as BackendName, index: Number(index) };
}

async function open(name: BackendName, options: BackendOptions, index = 0): Promise<Backend> {
  switch (name) {
    case 'cuda':
    case 'cuda-host':
      return openCuda(name, index, options);
    case 'cpu':
      return openCpu(options);
    case 'wasm':
      return openWasm(nodePlatform, options);
    case 'reference':
      return openReference(options);
    default:
      throw new MaclError('device', `${String(name)}: there is no such device`, { field: 'device', found: name });
  }
}

/**
 * Opens a backend. Throws MaclError('device') with the reason, for `auto` with everybody's. `info.why` says why this one.
 * The environment variable MACL_ISA stands in for `options.isa` on the backends that know its value.
 */
export async function openBackend(device: DeviceName = 'auto', options: BackendOptions = {}): Promise<Backend> {
  const reasons: string[] = [];
  if (device !== 'auto') {
    const { name, index } = parsed(device);
    return open(name, await withEnvironment(name, options), index);
  }
  for (const name of AUTO_ORDER) {
    try {
      const backend = await open(name, await withEnvironment(name, options));
      return Object.assign(backend, { info: explained(backend.info, [...reasons, `${name}: first that works`]) });
    } catch (error) {
      if (!(error instanceof MaclError) || error.code !== 'device') throw error;
      reasons.push(error.message);
    }
  }
  throw new MaclError('device', `no device works: ${reasons.join('; ')}`, { field: 'device' });
}

/** The same info with `why`; a getter such as maxBytes stays one. */
function explained<T extends object>(info: T, reasons: string[]): T {
  return Object.defineProperties(
    {},
    { ...Object.getOwnPropertyDescriptors(info), why: { value: reasons.join('; '), enumerable: true } },
  ) as T;
}

async function withEnvironment(name: BackendName, options: BackendOptions): Promise<BackendOptions> {
  const isa = process.env.MACL_ISA;
  if (options.isa !== undefined || !isa) return options;
  const report = await reportOf(name);
  return report.isas.includes(isa) && name !== 'reference' ? { ...options, isa } : options;
}

async function reportOf(name: BackendName): Promise<BackendReport> {
  switch (name) {
    case 'cuda':
    case 'cuda-host':
      return reportCuda(name);
    case 'cpu':
      return reportCpu();
    case 'wasm':
      return reportWasm(nodePlatform);
    case 'reference':
      return reportReference();
    default:
      return { name, available: false, isas: [], reason: 'there is no such device' };
  }
}

/**
 * What is there, what each would use, why the others are not used; in the order in which `auto` tries, then reference, and
 * `cuda-host` where somebody built it.
 */
export async function reportBackends(): Promise<BackendReport[]> {
  const all = await Promise.all(([...AUTO_ORDER, 'reference', 'cuda-host'] as const).map(reportOf));
  return all.filter((r) => r.name !== 'cuda-host' || r.available);
}
