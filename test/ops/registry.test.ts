/** One name an op in every layer, and the same bytes on both sides of the boundary. */
import { readdirSync, readFileSync } from 'node:fs';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { allKernels, encodeAttrs, kernelDef } from '../../src/graph/kernel.js';
import '../../src/ops/index.js';

const native = fileURLToPath(new URL('../../native/', import.meta.url));
const headers = readdirSync(`${native}ops`)
  .filter((f) => f.endsWith('.h') && f !== 'types.h')
  .map((f) => ({ file: f, text: readFileSync(`${native}ops/${f}`, 'utf8') }));

/** Signature strings of the headers: name → "x wp b? > y". */
const signatures = new Map(
  headers.flatMap(({ text, file }) =>
    [...text.matchAll(/constexpr const char (\w+)_tensors\[\] = "([^"]*)"/g)].map(
      (m) => [m[1]!, { file, tensors: m[2]! }] as const,
    ),
  ),
);
/** Attribute lists by macro name. */
const attributeLists = headers.flatMap(({ text }) =>
  [...text.replaceAll('\\\n', ' ').matchAll(/#define (\w+)_ATTRS\(X\)(.*)/g)].map((m) => ({
    macro: m[1]!,
    fields: [...m[2]!.matchAll(/X\((\w+), (\w+)\)/g)].map((f) => `${f[1]} ${f[2]};`).join(''),
  })),
);

describe('kernels', () => {
  it('are the same set in TypeScript and in native/ops', () => {
    expect(
      allKernels()
        .map((k) => k.name)
        .sort(),
    ).toEqual([...signatures.keys()].sort());
  });

  it.each(allKernels().map((k) => k.name))('%s has one signature and a known attribute struct', (name) => {
    const def = kernelDef(name);
    expect(def.tensors).toBe(signatures.get(name)!.tensors);
    expect(attributeLists.map((l) => l.fields)).toContain(def.attrs);
  });

  it.each([...new Set([...signatures.values()].map((s) => s.file))])('native/kernels/%s is there', (file) => {
    expect(readdirSync(`${native}kernels`)).toContain(file);
  });
});

describe('attributes', () => {
  it('are 8-byte little-endian fields in order', () => {
    const bytes = encodeAttrs(kernelDef('normact_fwd'), { norm: 1, eps: 1e-5, slope: 0.01, sd: 2, sh: -1 });
    const view = new DataView(bytes.buffer);
    expect(bytes.length).toBe(64);
    expect(view.getBigInt64(0, true)).toBe(1n);
    expect(view.getFloat64(8, true)).toBe(1e-5);
    expect(view.getBigInt64(32, true)).toBe(-1n);
  });
});
