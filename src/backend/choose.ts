/**
 * The one place where a backend is chosen, and where it is said why. An explicit device opens or fails with the reason;
 * `auto` takes the first that works of cuda, cpu, wasm.
 */
import { MaclError } from '../errors.js';
import { openCpu, reportCpu } from './cpu.js';
import { openReference, reportReference } from './reference.js';
import { openWasm, reportWasm } from './wasm.js';
import { nodePlatform } from './wasm-platform-node.js';
import type { Backend, BackendName, BackendOptions, BackendReport, DeviceName } from './types.js';

const NO_CUDA = 'not built in this version';
const AUTO_ORDER = ['cuda', 'cpu', 'wasm'] as const;

async function open(name: BackendName, options: BackendOptions): Promise<Backend> {
  switch (name) {
    case 'cuda':
      throw new MaclError('device', `cuda: ${NO_CUDA}`, { field: 'device' });
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
  if (device !== 'auto') return open(device, await withEnvironment(device, options));
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
      return { name, available: false, isas: [], reason: NO_CUDA };
    case 'cpu':
      return reportCpu();
    case 'wasm':
      return reportWasm(nodePlatform);
    case 'reference':
      return reportReference();
  }
}

/** What is there, what each would use, why the others are not used; in the order in which `auto` tries, reference last. */
export async function reportBackends(): Promise<BackendReport[]> {
  return Promise.all(([...AUTO_ORDER, 'reference'] as const).map(reportOf));
}
