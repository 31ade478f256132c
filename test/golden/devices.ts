/**
 * The devices that tests run on: the float64 reference, every instruction set of `cpu`, both builds of `wasm`, the CUDA
 * kernels on the host executor, and a card. One that is not there keeps its place with the reason, so that its tests are
 * skips that are counted. MACL_TEST_DEVICES ("reference,cuda") leaves the others out: for a machine lent for its card.
 */
import { openBackend } from '../../src/backend/choose.js';
import type { Backend, BackendName } from '../../src/backend/types.js';
import { enableRelaxedSimd } from '../../src/backend/wasm-platform-node.js';
import type { Kind, OpCases } from '../cases/types.js';

export interface Device {
  /** `reference`, `cpu avx2`, `wasm simd128`, … */
  readonly label: string;
  readonly backend: Backend | null;
  /** Why it is not there. */
  readonly reason: string;
  /** So slow that tests do less of the same there. */
  readonly slow: boolean;
}

// A test file has its process to itself, as the command line has.
enableRelaxedSimd();

const WANTED: readonly (readonly [BackendName, string | undefined])[] = [
  ['reference', undefined],
  ['cpu', 'amx'],
  ['cpu', 'avx512bf16'],
  ['cpu', 'avx512'],
  ['cpu', 'avx2'],
  ['cpu', 'baseline'],
  ['cpu', 'plain'],
  ['wasm', 'simd128'],
  ['wasm', 'relaxed-simd'],
  ['cuda-host', 'fp32'],
  ['cuda', 'fp32'],
];

/** Products rounded to TF32: held to bounds of their own, by the tests that have some. */
export const TF32: typeof WANTED = [
  ['cuda-host', 'tf32'],
  ['cuda', 'tf32'],
];

const labelOf = (name: BackendName, isa: string | undefined) => (isa ? `${name} ${isa}` : name);

async function open(name: BackendName, isa: string | undefined, threads: number): Promise<Device> {
  const label = labelOf(name, isa);
  const slow = name === 'cuda-host';
  try {
    return { label, backend: await openBackend(name, isa ? { isa, threads } : { threads }), reason: '', slow };
  } catch (error) {
    return { label, backend: null, reason: error instanceof Error ? error.message : String(error), slow };
  }
}

/** All of them; a missing one has no backend. The reference must be there. */
export async function openDevices(threads = 2, more: typeof WANTED = []): Promise<Device[]> {
  const devices: Device[] = [];
  const only = process.env.MACL_TEST_DEVICES?.split(',');
  const wanted = [...WANTED, ...more].filter(([name]) => only?.includes(name) ?? true);
  for (const [name, isa] of wanted) devices.push(await open(name, isa, threads));
  for (const d of devices) if (!d.backend) process.stderr.write(`skipped: ${d.label}: ${d.reason}\n`);
  if (!devices[0]?.backend) throw new Error(`the reference must be there: ${devices[0]?.reason}`);
  return devices;
}

export async function openDevice(label: string, threads: number): Promise<Device> {
  const wanted = WANTED.find(([name, isa]) => labelOf(name, isa) === label);
  if (!wanted) throw new Error(`no device is called ${label}`);
  return open(wanted[0], wanted[1], threads);
}

export async function openReference(): Promise<Backend> {
  return openBackend('reference', { threads: 1 });
}

/** What a device's results are held to. */
export function kindOf({ backend }: Device): Kind {
  if (backend?.info.isa === 'tf32') return 'tf32';
  return backend?.info.real === 'f64' ? 'f64' : 'f32';
}

/** Why a device does not have an operation, where a list says so. */
export function lackOf({ backend, label }: Device, list: OpCases): string | undefined {
  const reason = backend ? list.lacks?.[backend.info.name] : undefined;
  if (reason) process.stderr.write(`skipped: ${list.op} on ${label}: ${reason}\n`);
  return reason;
}
