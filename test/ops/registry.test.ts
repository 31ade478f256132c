/** One name an op in every layer, and the same bytes on both sides of the boundary. */
import { readdirSync, readFileSync } from 'node:fs';
import { afterAll, describe, expect, it } from 'vitest';
import { loadAddon } from '../../src/backend/addon.js';
import { openWasm } from '../../src/backend/wasm.js';
import { nodePlatform } from '../../src/backend/wasm-platform-node.js';
import { allKernels, encodeAttrs, kernelDef } from '../../src/graph/kernel.js';
import { DTYPES, SEGMENTS } from '../../src/graph/types.js';
import '../../src/ops/index.js';

type Contract = Record<string, { readonly tensors: string; readonly attrs: string }>;
const contract = (kernels: readonly { name: string; tensors: string; attrs: string }[]): Contract =>
  Object.fromEntries(kernels.map(({ name, tensors, attrs }) => [name, { tensors, attrs }]));
const ours = contract(allKernels());

const addon = loadAddon();
const tables = typeof addon === 'string' ? [] : addon.describe().tables;
const wasm = await openWasm(nodePlatform, { threads: 1 }).catch(() => null);
afterAll(() => wasm?.close());

/** Letter for letter and both ways: a kernel that one side lacks, or has otherwise, is named with both. */
describe('kernels have the tensors and attributes of the C++ tables', () => {
  it.each(tables.map(({ isa, kernels }) => [isa, kernels] as const))('cpu: %s', (_, kernels) => {
    expect(ours).toEqual(contract(kernels));
    expect(kernels).toHaveLength(allKernels().length);
  });
  if (tables.length === 0) it.skip(`cpu: ${String(addon)}`, () => undefined);
  it.skipIf(!wasm)('wasm', () => {
    expect(ours).toEqual(contract(wasm!.info.kernels));
    expect(wasm!.info.kernels).toHaveLength(allKernels().length);
  });
});

it('native/kernels has a file of the name of each of native/ops', () => {
  const headers = (folder: string) =>
    readdirSync(new URL(`../../native/${folder}/`, import.meta.url)).filter((f) => f.endsWith('.h') && f !== 'types.h');
  expect(headers('kernels')).toEqual(expect.arrayContaining(headers('ops')));
});

describe('numbers of native/ops/types.h', () => {
  const text = readFileSync(new URL('../../native/ops/types.h', import.meta.url), 'utf8');
  const numbers = (name: string) =>
    Object.fromEntries(
      [...text.match(new RegExp(`enum ${name} : i32 \\{([^}]*)\\}`))![1]!.matchAll(/k(\w+) = (\d+)/g)]
        .map((m): [string, number] => [m[1]!.toLowerCase(), Number(m[2])])
        .filter(([key]) => key !== 'segments'),
    );
  it('are those of the compiler', () => {
    expect(numbers('DType')).toEqual(DTYPES);
    expect(numbers('SegmentId')).toEqual(SEGMENTS);
  });
});

describe('attributes', () => {
  it('are 8-byte little-endian fields in order', () => {
    const bytes = encodeAttrs(kernelDef('normact_fwd'), { norm: 1, eps: 1e-5, slope: 0.01, sd: 2, sh: -1 });
    const view = new DataView(bytes.buffer);
    expect(bytes.length).toBe(48);
    expect(view.getBigInt64(0, true)).toBe(1n);
    expect(view.getFloat64(8, true)).toBe(1e-5);
    expect(view.getBigInt64(32, true)).toBe(-1n);
  });
});
