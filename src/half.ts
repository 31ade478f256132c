/**
 * IEEE binary16 and bfloat16 ↔ float32, for weights and prepared volumes. Conversion only: no arithmetic in fp16.
 */

/** The largest number that float32 holds: beyond it lies infinity. */
export const FLOAT32_MAX = 3.4028234663852886e38;

let halfToFloat: Float32Array | undefined;

/** All 65,536 values of binary16 (256 KiB, made on first use). */
export function halfTable(): Float32Array {
  if (halfToFloat) return halfToFloat;
  const table = new Float32Array(65536);
  for (let bits = 0; bits < 65536; bits++) {
    const sign = bits & 0x8000 ? -1 : 1;
    const exponent = (bits >> 10) & 31;
    const fraction = bits & 1023;
    let value: number;
    if (exponent === 31) value = fraction ? NaN : Infinity;
    else if (exponent === 0) value = fraction * 2 ** -24;
    else value = (1 + fraction / 1024) * 2 ** (exponent - 15);
    table[bits] = sign * value;
  }
  halfToFloat = table;
  return table;
}

const floatScratch = new Float32Array(1);
const bitsScratch = new Uint32Array(floatScratch.buffer);

/**
 * The bits of a number as float32, so that rounding them once more to fewer bits is rounding the number itself: what
 * float32 does not hold exactly is cut towards zero and its last bit is set ("round to odd", Boldo and Melquiond 2008).
 */
function stickyBits(value: number): number {
  floatScratch[0] = value;
  const rounded = floatScratch[0];
  const bits = bitsScratch[0]!;
  if (rounded === value || Number.isNaN(value)) return bits;
  // An infinity of a finite number is cut to the largest float32, one below its bits.
  return (Math.abs(rounded) > Math.abs(value) ? bits - 1 : bits) | 1;
}

/** Rounds to binary16, nearest even; from ±65,520 on it becomes infinite. */
export function floatToHalf(value: number): number {
  const x = stickyBits(value) >>> 0;
  const sign = (x >>> 16) & 0x8000;
  const magnitude = x & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal in binary16: counted in units of 2^-24, and float64 holds the quotient exactly.
    const units = Math.abs(value) * 2 ** 24;
    let rounded = Math.floor(units);
    const rest = units - rounded;
    if (rest > 0.5 || (rest === 0.5 && rounded & 1)) rounded++;
    return sign | rounded;
  }
  const shifted = magnitude - 0x38000000;
  return sign | ((shifted + 0xfff + ((shifted >>> 13) & 1)) >>> 13);
}

/** Numbers → binary16 bits. */
export function toHalf(values: ArrayLike<number>, out: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  for (let i = 0; i < values.length; i++) out[i] = floatToHalf(values[i]!);
  return out;
}

/** binary16 bits → float32, exact. */
export function fromHalf(bits: Uint16Array, out: Float32Array = new Float32Array(bits.length)): Float32Array {
  const table = halfTable();
  for (let i = 0; i < bits.length; i++) out[i] = table[bits[i]!]!;
  return out;
}

/** Rounds to bfloat16, nearest even; from 3.3962e38 on it becomes infinite, as in PyTorch. */
export function floatToBfloat(value: number): number {
  const x = stickyBits(value) >>> 0;
  // Any NaN: without its lower bits it could become infinity.
  if ((x & 0x7fffffff) > 0x7f800000) return 0x7fc0 | ((x >>> 16) & 0x8000);
  return ((x + 0x7fff + ((x >>> 16) & 1)) >>> 16) & 0xffff;
}

/** Numbers → bfloat16 bits. */
export function toBfloat(values: ArrayLike<number>, out: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  for (let i = 0; i < values.length; i++) out[i] = floatToBfloat(values[i]!);
  return out;
}

/** bfloat16 bits → float32, exact. */
export function fromBfloat(bits: Uint16Array): Float32Array {
  const out = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = bits[i]! << 16;
  return new Float32Array(out.buffer);
}
