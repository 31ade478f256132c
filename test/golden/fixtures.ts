/** Reads the golden files of test/fixtures, and measures how far results are from them. */
import { readFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { asFloat64, readSafetensors, type Safetensors } from '../../src/data/safetensors.js';

const FOLDER = path.resolve(path.dirname(fileURLToPath(import.meta.url)), '..', 'fixtures');

export interface Golden<Meta> {
  readonly meta: Meta;
  readonly file: Safetensors;
  has(name: string): boolean;
  /** Values as float64, whatever the dtype. */
  values(name: string): Float64Array;
  shape(name: string): readonly number[];
  /** Names that begin with the prefix, without it. */
  names(prefix: string): string[];
}

export function readGolden<Meta>(stem: string): Golden<Meta> {
  const name = `${stem}.safetensors`;
  const file = readSafetensors(new Uint8Array(readFileSync(path.join(FOLDER, name))), name);
  const tensor = (key: string) => {
    const t = file.tensors.get(key);
    if (!t) throw new Error(`${name} has no tensor ${key}`);
    return t;
  };
  return {
    meta: JSON.parse(file.metadata['golden'] ?? '{}') as Meta,
    file,
    has: (key) => file.tensors.has(key),
    values: (key) => asFloat64(tensor(key), key),
    shape: (key) => tensor(key).shape,
    names: (prefix) => [...file.tensors.keys()].filter((k) => k.startsWith(prefix)).map((k) => k.slice(prefix.length)),
  };
}

export function largest(values: ArrayLike<number>): number {
  let most = 0;
  for (let i = 0; i < values.length; i++) {
    const v = Math.abs(values[i] as number);
    if (!(v <= most)) most = v; // NaN counts as larger than everything
  }
  return most;
}

/** The largest difference over the expected tensor's largest entry (or `scale`). NaN where anything is NaN. */
export function relativeError(
  found: ArrayLike<number>,
  expected: ArrayLike<number>,
  scale = largest(expected),
): number {
  if (found.length !== expected.length) throw new Error(`expected ${expected.length} values, found ${found.length}`);
  let worst = 0;
  for (let i = 0; i < expected.length; i++) {
    const d = Math.abs((found[i] as number) - (expected[i] as number));
    if (!(d <= worst)) worst = d;
  }
  return worst === 0 ? 0 : worst / Math.max(scale, 1e-300);
}

/** |found − expected| / |expected|, both as L2 norms. */
export function relativeL2(found: ArrayLike<number>, expected: ArrayLike<number>, scale?: number): number {
  let [d2, e2] = [0, 0];
  for (let i = 0; i < expected.length; i++) {
    d2 += ((found[i] as number) - (expected[i] as number)) ** 2;
    e2 += (expected[i] as number) ** 2;
  }
  return d2 === 0 ? 0 : Math.sqrt(d2) / Math.max(scale ?? Math.sqrt(e2), 1e-300);
}

export function norm2(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += (values[i] as number) ** 2;
  return Math.sqrt(sum);
}
