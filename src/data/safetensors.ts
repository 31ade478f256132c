/**
 * safetensors, read strictly and written deterministically: 8 bytes of header length, a JSON header, then the tensors'
 * bytes without gap or overlap. Bytes only: files are in `files.ts`, so that this part runs in a browser.
 */
import { fileError, MaclError } from '../errors.js';
import { decode } from '../graph/codec.js';
import type { DType } from '../graph/types.js';
import { type ArrayKind, arrayKind, isMap } from '../realm.js';
import { parseStrictJson } from './json.js';

export type SafetensorsDtype =
  | 'F64'
  | 'I64'
  | 'U64'
  | 'F32'
  | 'I32'
  | 'U32'
  | 'F16'
  | 'BF16'
  | 'I16'
  | 'U16'
  | 'F8_E5M2'
  | 'F8_E4M3'
  | 'I8'
  | 'U8'
  | 'BOOL';

/** Bytes an element. */
const DTYPE_BYTES: Readonly<Record<SafetensorsDtype, number>> = {
  F64: 8,
  I64: 8,
  U64: 8,
  F32: 4,
  I32: 4,
  U32: 4,
  F16: 2,
  BF16: 2,
  I16: 2,
  U16: 2,
  F8_E5M2: 1,
  F8_E4M3: 1,
  I8: 1,
  U8: 1,
  BOOL: 1,
};

/** A program's dtypes as the format names them. */
export const SAFETENSORS_DTYPES = {
  f32: 'F32',
  f64: 'F64',
  i32: 'I32',
  i16: 'I16',
  f16: 'F16',
  bf16: 'BF16',
  u8: 'U8',
} as const satisfies Readonly<Record<DType, SafetensorsDtype>>;

const PROGRAM_DTYPES: Readonly<Partial<Record<SafetensorsDtype, DType>>> = Object.fromEntries(
  Object.entries(SAFETENSORS_DTYPES).map(([dtype, name]) => [name, dtype as DType]),
);

/** Of tensors that pass through memory in pieces; a multiple of every element size. */
export const PIECE_BYTES = 2 * 1024 * 1024;

/** One tensor; `bytes` is a view into the file's bytes, little endian, row-major. */
export interface RawTensor {
  dtype: SafetensorsDtype;
  shape: number[];
  bytes: Uint8Array;
}

/** Where a tensor lies: `start` and `end` count from the first byte after the header. */
export interface TensorEntry {
  name: string;
  dtype: SafetensorsDtype;
  shape: number[];
  start: number;
  end: number;
}

export interface SafetensorsHeader {
  /** In the order of their bytes. */
  entries: TensorEntry[];
  metadata: Record<string, string>;
  /** Bytes before the first tensor. */
  dataOffset: number;
}

export interface Safetensors {
  tensors: Map<string, RawTensor>;
  metadata: Record<string, string>;
}

/**
 * The largest header that is parsed: room for some 25,000 tensors, where networks of this field have hundreds. The format
 * allows 100 MB, which would be seconds of parsing before anything in it could be refused.
 */
const MAX_HEADER_BYTES = 4 * 2 ** 20;

function isCount(value: unknown): value is number {
  return typeof value === 'number' && Number.isSafeInteger(value) && value >= 0;
}

/** The header's length from the first 8 bytes, held against the file's size. Throws MaclError `file`. */
export function headerLength(first8: Uint8Array, fileBytes: number, file: string): number {
  if (first8.length < 8 || fileBytes < 8) {
    throw fileError(file, 'header length', `expected at least 8 bytes, found ${Math.min(first8.length, fileBytes)}`);
  }
  const length = new DataView(first8.buffer, first8.byteOffset, 8).getBigUint64(0, true);
  if (length > BigInt(MAX_HEADER_BYTES)) {
    throw fileError(file, 'header length', `${length} bytes, at most ${MAX_HEADER_BYTES} are allowed`);
  }
  if (Number(length) > fileBytes - 8) {
    throw fileError(file, 'header length', `${length} bytes, but the file has ${fileBytes - 8} after it`);
  }
  return Number(length);
}

function parseEntry(file: string, name: string, value: unknown): TensorEntry {
  const bad = (what: string): MaclError => fileError(file, `tensor ${JSON.stringify(name)}`, what);
  if (!isMap(value)) throw bad('expected an object');
  for (const key of value.keys()) {
    if (key !== 'dtype' && key !== 'shape' && key !== 'data_offsets') throw bad(`unknown key ${JSON.stringify(key)}`);
  }
  const dtype: unknown = value.get('dtype');
  if (typeof dtype !== 'string' || !Object.hasOwn(DTYPE_BYTES, dtype)) {
    throw bad(`unknown dtype ${JSON.stringify(dtype)}`);
  }
  const shape: unknown = value.get('shape');
  if (!Array.isArray(shape) || !shape.every(isCount)) throw bad('shape is not a list of whole numbers');
  const offsets: unknown = value.get('data_offsets');
  if (!Array.isArray(offsets) || offsets.length !== 2 || !offsets.every(isCount)) {
    throw bad('data_offsets is not two whole numbers below 2^53');
  }
  let bytes = DTYPE_BYTES[dtype as SafetensorsDtype];
  for (const n of shape) {
    bytes *= n;
    if (!Number.isSafeInteger(bytes)) throw bad(`shape [${shape.join(', ')}] overflows`);
  }
  const [start, end] = offsets as [number, number];
  if (end < start) throw bad(`data_offsets [${start}, ${end}] run backwards`);
  if (end - start !== bytes) {
    throw bad(
      `data_offsets [${start}, ${end}] hold ${end - start} bytes, shape [${shape.join(', ')}] ${dtype} needs ${bytes}`,
    );
  }
  return { name, dtype: dtype as SafetensorsDtype, shape, start, end };
}

/**
 * Parses and checks a header: known keys and dtypes, no doubled name, tensors one after the other from byte 0 to the
 * end of the file, without gap or overlap. `header` are the bytes after the length, `fileBytes` the whole file's size.
 */
export function parseSafetensorsHeader(header: Uint8Array, fileBytes: number, file: string): SafetensorsHeader {
  let root: unknown;
  try {
    const text = new TextDecoder('utf-8', { fatal: true, ignoreBOM: true }).decode(header);
    if (text[0] !== '{') throw new Error('does not begin with {');
    root = parseStrictJson(text);
  } catch (cause) {
    throw fileError(file, 'header', (cause as Error).message, cause);
  }
  if (!isMap(root)) throw fileError(file, 'header', 'expected an object');
  const metadata: Record<string, string> = Object.create(null) as Record<string, string>;
  const entries: TensorEntry[] = [];
  for (const [name, value] of root as Map<string, unknown>) {
    if (name !== '__metadata__') {
      entries.push(parseEntry(file, name, value));
      continue;
    }
    if (!isMap(value)) throw fileError(file, '__metadata__', 'expected an object');
    for (const [key, text] of value as Map<string, unknown>) {
      if (typeof text !== 'string') throw fileError(file, `__metadata__.${key}`, 'expected a string');
      metadata[key] = text;
    }
  }
  entries.sort((a, b) => a.start - b.start || a.end - b.end);
  let at = 0;
  for (const entry of entries) {
    if (entry.start !== at) {
      const what = entry.start > at ? `leaves a gap after byte ${at}` : `overlaps what ends at byte ${at}`;
      throw fileError(
        file,
        `tensor ${JSON.stringify(entry.name)}`,
        `data_offsets [${entry.start}, ${entry.end}] ${what}`,
      );
    }
    at = entry.end;
  }
  const dataOffset = 8 + header.length;
  if (at !== fileBytes - dataOffset) {
    throw fileError(file, 'data', `the header describes ${at} bytes, the file has ${fileBytes - dataOffset}`);
  }
  return { entries, metadata, dataOffset };
}

/** Reads a whole file's bytes. Throws MaclError `file`, naming the tensor, for anything that is not exact. */
export function readSafetensors(bytes: Uint8Array, file: string): Safetensors {
  const length = headerLength(bytes.subarray(0, 8), bytes.length, file);
  return tensorsOf(bytes, parseSafetensorsHeader(bytes.subarray(8, 8 + length), bytes.length, file));
}

/** The tensors of a whole file's bytes, as views. */
export function tensorsOf(bytes: Uint8Array, header: SafetensorsHeader): Safetensors {
  const tensors = new Map<string, RawTensor>();
  for (const { name, dtype, shape, start, end } of header.entries) {
    tensors.set(name, { dtype, shape, bytes: bytes.subarray(header.dataOffset + start, header.dataOffset + end) });
  }
  return { tensors, metadata: header.metadata };
}

/** A tensor whose bytes come in pieces when they are written, so that it never lies in memory twice. */
export interface TensorStream {
  dtype: SafetensorsDtype;
  shape: number[];
  byteLength: number;
  pieces(): Iterable<Uint8Array> | AsyncIterable<Uint8Array>;
}

const compareText = (a: string, b: string): number => (a < b ? -1 : a > b ? 1 : 0);

/**
 * The header (length, JSON, padding to a multiple of 8) and the order of the tensors: the largest element size first,
 * so that every tensor is aligned in the file, then by name. The same tensors give the same bytes.
 */
export function safetensorsLayout(
  tensors: ReadonlyMap<string, RawTensor | TensorStream>,
  metadata: Readonly<Record<string, string>> = {},
): { header: Uint8Array; order: string[] } {
  const order = [...tensors.keys()].sort(
    (a, b) => DTYPE_BYTES[tensors.get(b)!.dtype] - DTYPE_BYTES[tensors.get(a)!.dtype] || compareText(a, b),
  );
  const parts: string[] = [];
  const keys = Object.keys(metadata).sort(compareText);
  if (keys.length) {
    const pairs = keys.map((key) => `${JSON.stringify(key)}:${JSON.stringify(metadata[key])}`);
    parts.push(`"__metadata__":{${pairs.join(',')}}`);
  }
  let at = 0;
  for (const name of order) {
    const tensor = tensors.get(name)!;
    const { dtype, shape } = tensor;
    const length = 'bytes' in tensor ? tensor.bytes.length : tensor.byteLength;
    const needed = shape.reduce((product, n) => product * n, DTYPE_BYTES[dtype]);
    if (name === '__metadata__' || length !== needed) {
      throw new MaclError(
        'weights',
        `tensor ${name}: shape [${shape.join(', ')}] ${dtype} needs ${needed} bytes, found ${length}`,
        {
          tensors: [name],
        },
      );
    }
    const range = `[${at},${at + length}]`;
    parts.push(`${JSON.stringify(name)}:{"dtype":"${dtype}","shape":[${shape.join(',')}],"data_offsets":${range}}`);
    at += length;
  }
  const json = new TextEncoder().encode(`{${parts.join(',')}}`);
  const padded = Math.ceil(json.length / 8) * 8;
  const header = new Uint8Array(8 + padded).fill(0x20);
  new DataView(header.buffer).setBigUint64(0, BigInt(padded), true);
  header.set(json, 8);
  return { header, order };
}

/** Writes tensors and metadata; the same input gives the same bytes, whatever the order of the map. */
export function writeSafetensors(
  tensors: ReadonlyMap<string, RawTensor>,
  metadata: Readonly<Record<string, string>> = {},
): Uint8Array {
  const { header, order } = safetensorsLayout(tensors, metadata);
  const total = order.reduce((sum, name) => sum + tensors.get(name)!.bytes.length, header.length);
  const out = new Uint8Array(total);
  out.set(header);
  let at = header.length;
  for (const name of order) {
    out.set(tensors.get(name)!.bytes, at);
    at += tensors.get(name)!.bytes.length;
  }
  return out;
}

export type TensorArray =
  Float64Array | Float32Array | Int32Array | Uint32Array | Int16Array | Uint16Array | Int8Array | Uint8Array;

/** A tensor from a typed array, without a copy; Uint16Array is U16 unless `dtype` says F16 or BF16. */
export function rawTensor(values: TensorArray, shape: readonly number[], dtype?: SafetensorsDtype): RawTensor {
  const bytes = new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  return { dtype: dtype ?? dtypeOf(values), shape: [...shape], bytes };
}

const DTYPES: Readonly<Record<ArrayKind, SafetensorsDtype>> = {
  Float64Array: 'F64',
  Float32Array: 'F32',
  Int32Array: 'I32',
  Uint32Array: 'U32',
  Int16Array: 'I16',
  Uint16Array: 'U16',
  Int8Array: 'I8',
  Uint8Array: 'U8',
  Uint8ClampedArray: 'U8',
};

const dtypeOf = (values: TensorArray): SafetensorsDtype => DTYPES[arrayKind(values)!];

type ArrayOf<T> = new (buffer: ArrayBufferLike, byteOffset: number, length: number) => T;

/** A typed view of the bytes, or of a copy where they are not aligned: for dtypes that no program has. */
function viewAs<T>(bytes: Uint8Array, type: ArrayOf<T>, size: number): T {
  const source = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  return new type(source.buffer, source.byteOffset, source.byteLength / size);
}

/** The values as float32: a view where the tensor is F32 and aligned, else a copy. Throws for a dtype that is no number. */
export function asFloat32(tensor: RawTensor, name = 'tensor'): Float32Array {
  const { dtype, bytes } = tensor;
  if (dtype === 'F32' || dtype === 'F16' || dtype === 'BF16')
    return decode(PROGRAM_DTYPES[dtype]!, bytes) as Float32Array;
  return Float32Array.from(asFloat64(tensor, name));
}

/** The values as float64: a view where the tensor is F64 and aligned, else a copy. */
export function asFloat64(tensor: RawTensor, name = 'tensor'): Float64Array {
  const { bytes, dtype } = tensor;
  const known = dtype === 'BOOL' ? 'u8' : PROGRAM_DTYPES[dtype];
  if (known === 'f64') return decode(known, bytes) as Float64Array;
  if (known) return Float64Array.from(decode(known, bytes));
  switch (dtype) {
    case 'I64':
      return Float64Array.from(viewAs<BigInt64Array>(bytes, BigInt64Array, 8), (v) => exactInteger(v, name));
    case 'U64':
      return Float64Array.from(viewAs<BigUint64Array>(bytes, BigUint64Array, 8), (v) => exactInteger(v, name));
    case 'U32':
      return Float64Array.from(viewAs<Uint32Array>(bytes, Uint32Array, 4));
    case 'U16':
      return Float64Array.from(viewAs<Uint16Array>(bytes, Uint16Array, 2));
    case 'I8':
      return Float64Array.from(viewAs<Int8Array>(bytes, Int8Array, 1));
    default:
      throw new MaclError('weights', `${name}: values of dtype ${dtype} are not read`, {
        tensors: [name],
        found: dtype,
      });
  }
}

function exactInteger(value: bigint, name: string): number {
  const number = Number(value);
  if (!Number.isSafeInteger(number)) {
    throw new MaclError('weights', `${name}: ${value} has no exact float64 value`, {
      tensors: [name],
      found: String(value),
    });
  }
  return number;
}

/** The values as int32: a view where the tensor is I32 and aligned, else a copy; anything that is not whole is refused. */
export function asInt32(tensor: RawTensor, name = 'tensor'): Int32Array {
  if (tensor.dtype === 'I32') return decode('i32', tensor.bytes) as Int32Array;
  const wide = asFloat64(tensor, name);
  const out = new Int32Array(wide.length);
  for (let i = 0; i < wide.length; i++) {
    out[i] = wide[i]!;
    if (out[i] !== wide[i]) {
      throw new MaclError('weights', `${name}: element ${i} is ${wide[i]}, expected an int32`, {
        tensors: [name],
        found: wide[i],
      });
    }
  }
  return out;
}
