/**
 * IEEE binary16 and bfloat16 ↔ float32, for weights and prepared volumes. Conversion only: no arithmetic in fp16.
 */

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

/** Rounds a float32 to binary16, nearest even; beyond ±65,520 it becomes infinite. */
export function floatToHalf(value: number): number {
  floatScratch[0] = value;
  const x = bitsScratch[0]!;
  const sign = (x >>> 16) & 0x8000;
  const magnitude = x & 0x7fffffff;
  if (magnitude > 0x7f800000) return sign | 0x7e00;
  if (magnitude >= 0x477ff000) return sign | 0x7c00;
  if (magnitude < 0x38800000) {
    // Subnormal in binary16: counted in units of 2^-24, and float64 holds the quotient exactly.
    const units = Math.abs(floatScratch[0]) * 2 ** 24;
    let rounded = Math.floor(units);
    const rest = units - rounded;
    if (rest > 0.5 || (rest === 0.5 && rounded & 1)) rounded++;
    return sign | rounded;
  }
  const shifted = magnitude - 0x38000000;
  return sign | ((shifted + 0xfff + ((shifted >>> 13) & 1)) >>> 13);
}

/** float32 → binary16 bits. */
export function toHalf(values: Float32Array, out: Uint16Array = new Uint16Array(values.length)): Uint16Array {
  for (let i = 0; i < values.length; i++) out[i] = floatToHalf(values[i]!);
  return out;
}

/** binary16 bits → float32, exact. */
export function fromHalf(bits: Uint16Array, out: Float32Array = new Float32Array(bits.length)): Float32Array {
  const table = halfTable();
  for (let i = 0; i < bits.length; i++) out[i] = table[bits[i]!]!;
  return out;
}

/** bfloat16 bits → float32, exact. */
export function fromBfloat(bits: Uint16Array): Float32Array {
  const out = new Uint32Array(bits.length);
  for (let i = 0; i < bits.length; i++) out[i] = bits[i]! << 16;
  return new Float32Array(out.buffer);
}
