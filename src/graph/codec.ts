/**
 * Numbers as the bytes of a dtype, and back: the one place that knows how each dtype lies in memory (little endian, as on
 * every machine that is supported). No files, no sessions.
 */
import { MaclError } from '../errors.js';
import { fromBfloat, fromHalf, toBfloat, toHalf } from '../half.js';
import { isArrayOf } from '../realm.js';
import { DTYPE_BYTES, type DType } from './types.js';

export type Numbers = ArrayLike<number>;
/** What bytes are read as: the dtype's own array; float32 for f16 and bf16, which holds them exactly. */
export type Values = Float32Array | Float64Array | Int32Array | Int16Array | Uint8Array;

type Stored = Values | Uint16Array;
type StoredArray = new (buffer: ArrayBufferLike, byteOffset: number, length: number) => Stored;

/** The array that holds a dtype's bits. */
const ARRAYS = {
  f32: Float32Array,
  f64: Float64Array,
  i32: Int32Array,
  i16: Int16Array,
  f16: Uint16Array,
  bf16: Uint16Array,
  u8: Uint8Array,
} as const satisfies Readonly<Record<DType, StoredArray>>;

const NAMES = {
  f32: 'Float32Array',
  f64: 'Float64Array',
  i32: 'Int32Array',
  i16: 'Int16Array',
  u8: 'Uint8Array',
} as const;

const RANGES = { i32: [-(2 ** 31), 2 ** 31 - 1], i16: [-(2 ** 15), 2 ** 15 - 1], u8: [0, 255] } as const;

/** The bits of a dtype as a view of the bytes, or of a copy where they do not lie as the array needs them. */
function bitsOf(dtype: DType, bytes: Uint8Array): Stored {
  const size = DTYPE_BYTES[dtype];
  if (bytes.length % size !== 0)
    throw new MaclError('program', `${bytes.length} bytes are no whole number of ${dtype} of ${size} bytes`);
  const source = bytes.byteOffset % size === 0 ? bytes : bytes.slice();
  const type: StoredArray = ARRAYS[dtype];
  return new type(source.buffer, source.byteOffset, bytes.length / size);
}

/** Whether the values are the dtype's own array already, so that their bytes are the answer. */
const isOwnArray = (dtype: DType, values: Numbers): values is Values =>
  dtype !== 'f16' && dtype !== 'bf16' && isArrayOf(values, NAMES[dtype]);

/**
 * Writes values as a dtype into `target`, which holds just as many. Floats are rounded to nearest even.
 * @param name for messages
 * @throws MaclError `program` where the count differs, or a value is no whole number that an integer dtype holds
 */
export function encodeInto(target: Uint8Array, dtype: DType, values: Numbers, name = 'values'): void {
  checkCount(dtype, target.length, values.length, name);
  // A target that does not lie as the array needs it: by way of one that does.
  if (target.byteOffset % DTYPE_BYTES[dtype] !== 0) return target.set(encode(dtype, values, name));
  const bits = bitsOf(dtype, target);
  if (dtype === 'f16') toHalf(values, bits as Uint16Array);
  else if (dtype === 'bf16') toBfloat(values, bits as Uint16Array);
  else {
    if (dtype !== 'f32' && dtype !== 'f64' && !isOwnArray(dtype, values)) checkWhole(dtype, values, name);
    bits.set(values);
  }
}

/** The bytes of values as a dtype: a view of the values where they are its own array, else a copy. Throws as `encodeInto`. */
export function encode(dtype: DType, values: Numbers, name = 'values'): Uint8Array {
  if (isOwnArray(dtype, values)) return new Uint8Array(values.buffer, values.byteOffset, values.byteLength);
  const bytes = new Uint8Array(values.length * DTYPE_BYTES[dtype]);
  encodeInto(bytes, dtype, values, name);
  return bytes;
}

/** The values of a dtype's bytes: a view where they lie as the array needs them (f16 and bf16 never), else a copy. */
export function decode(dtype: DType, bytes: Uint8Array): Values {
  const bits = bitsOf(dtype, bytes);
  if (dtype === 'f16') return fromHalf(bits as Uint16Array);
  if (dtype === 'bf16') return fromBfloat(bits as Uint16Array);
  return bits as Values;
}

/**
 * The bytes as the dtype's own array, to be read and written in place. @throws MaclError `program` where there is none (f16,
 * bf16) or the bytes do not lie as it needs them
 */
export function viewOf(dtype: DType, bytes: Uint8Array): Values {
  if (dtype === 'f16' || dtype === 'bf16' || bytes.byteOffset % DTYPE_BYTES[dtype] !== 0)
    throw new MaclError('program', `bytes from ${bytes.byteOffset} on are no array of ${dtype}`);
  return bitsOf(dtype, bytes) as Values;
}

/** @throws MaclError `program` where bytes and values differ in number */
export function checkCount(dtype: DType, bytes: number, found: number, name: string): void {
  const expected = bytes / DTYPE_BYTES[dtype];
  if (found === expected) return;
  throw new MaclError('program', `${name}: expected ${expected} numbers, found ${found}`, {
    field: name,
    expected,
    found,
  });
}

function checkWhole(dtype: keyof typeof RANGES, values: Numbers, name: string): void {
  const [least, most] = RANGES[dtype];
  for (let i = 0; i < values.length; i++) {
    const value = values[i]!;
    if (value >= least && value <= most && Number.isInteger(value)) continue;
    const expected = `a whole number from ${least} to ${most} (${dtype})`;
    const words = `${name}: element ${i}: expected ${expected}, found ${value}`;
    throw new MaclError('program', words, { field: name, expected, found: value });
  }
}
