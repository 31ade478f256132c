/**
 * What a value is, wherever it was made. A typed array, an error or a signal of another realm (Jest and `vm` contexts,
 * Electron's pages) is no instance of this realm's classes, so nothing here or elsewhere in src asks `instanceof`; what
 * every realm agrees on is asked instead. No Node modules.
 */
const ARRAYS = {
  Int8Array,
  Uint8Array,
  Uint8ClampedArray: Uint8Array,
  Int16Array,
  Uint16Array,
  Int32Array,
  Uint32Array,
  Float32Array,
  Float64Array,
};

/** Typed arrays of numbers, by the name of their type. */
export interface NumberArrays {
  Int8Array: Int8Array;
  Uint8Array: Uint8Array;
  Uint8ClampedArray: Uint8ClampedArray;
  Int16Array: Int16Array;
  Uint16Array: Uint16Array;
  Int32Array: Int32Array;
  Uint32Array: Uint32Array;
  Float32Array: Float32Array;
  Float64Array: Float64Array;
}
export type ArrayKind = keyof NumberArrays;

/** Reads the internal slot that every typed array has, of whatever realm, and that nothing else can imitate. */
const typedArrayName = Object.getOwnPropertyDescriptor(
  Object.getPrototypeOf(Uint8Array.prototype) as object,
  Symbol.toStringTag,
)!.get as (this: unknown) => string | undefined;

/** The name of a typed array's type, those of bigints included; undefined for anything else. */
export const typedArrayKind = (value: unknown): string | undefined => typedArrayName.call(value);

/** The type of an array of numbers; undefined for anything else, arrays of bigints included. */
export function arrayKind(value: unknown): ArrayKind | undefined {
  const kind = typedArrayKind(value);
  return kind !== undefined && Object.hasOwn(ARRAYS, kind) ? (kind as ArrayKind) : undefined;
}

export function isArrayOf<K extends ArrayKind>(value: unknown, ...kinds: readonly K[]): value is NumberArrays[K] {
  return (kinds as readonly (string | undefined)[]).includes(typedArrayName.call(value));
}

type Numbers = NumberArrays[Exclude<ArrayKind, 'Uint8ClampedArray'>];
type Constructor = new (from: number | ArrayBufferLike, at?: number, length?: number) => Numbers;

/** A new array of this realm with the element type of `like`; a Buffer's is a Uint8Array. */
export function emptyLike<T extends Numbers>(like: T, length: number): T {
  return new (ARRAYS[arrayKind(like)!] as Constructor)(length) as T;
}

/** The same numbers in memory of their own, as an array of this realm: what is borrowed may change meanwhile. */
export function copyOf<T extends Numbers>(values: T): T {
  const here = new (ARRAYS[arrayKind(values)!] as Constructor)(values.buffer, values.byteOffset, values.length);
  // One pass over the memory: a new array would be cleared first.
  return here.slice() as T;
}

const tagOf = (value: unknown): string => Object.prototype.toString.call(value);

export const isMap = (value: unknown): value is ReadonlyMap<unknown, unknown> => tagOf(value) === '[object Map]';

/** What an error says, whatever was thrown. */
export function messageOf(error: unknown): string {
  if (typeof error === 'object' && error !== null && 'message' in error && typeof error.message === 'string')
    return error.message;
  try {
    return String(error);
  } catch {
    return 'something was thrown that has no text';
  }
}
