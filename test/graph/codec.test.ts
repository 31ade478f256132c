/** Every dtype as bytes and back: rounding, ranges, places that are not aligned, and no byte beyond what is meant. */
import { describe, expect, it } from 'vitest';
import { MaclError } from '../../src/errors.js';
import { decode, encode, encodeInto, viewOf } from '../../src/graph/codec.js';
import { DTYPE_BYTES, DTYPES, type DType } from '../../src/graph/types.js';
import { floatToBfloat, floatToHalf, fromBfloat, toBfloat } from '../../src/half.js';

const ALL = Object.keys(DTYPES) as DType[];
const FLOATS = ['f32', 'f64', 'f16', 'bf16'] as const;
const WHOLE = { i32: [-(2 ** 31), 2 ** 31 - 1], i16: [-32768, 32767], u8: [0, 255] } as const;
const codeOf = (f: () => unknown): string => {
  try {
    f();
  } catch (error) {
    if (error instanceof MaclError) return `${error.code}: ${error.message}`;
    throw error;
  }
  return 'accepted';
};
/** The nearest bfloat16 of a finite number by search over all of them, ties to the even one: slow, and plainly right. */
function nearestBfloat(value: number): number {
  let best = 0;
  for (let bits = 0; bits < 0x7f80; bits++) {
    const [distance, least] = [bits, best].map((b) => Math.abs(fromBfloat(Uint16Array.of(b))[0]! - Math.abs(value)));
    if (distance! < least! || (distance === least && bits % 2 === 0)) best = bits;
  }
  return best | (value < 0 ? 0x8000 : 0);
}

describe.each(ALL)('%s', (dtype) => {
  const size = DTYPE_BYTES[dtype];
  const numbers = dtype === 'u8' ? [0, 1, 2, 250, 255] : [0, 1, -2, 96, -128];

  it('gives back numbers that it holds, from lists and from arrays of any kind', () => {
    for (const values of [numbers, Float64Array.from(numbers), Float32Array.from(numbers), Int32Array.from(numbers)]) {
      const bytes = encode(dtype, values);
      expect(bytes).toHaveLength(numbers.length * size);
      expect([...decode(dtype, bytes)]).toEqual(numbers);
    }
  });

  it('fills its own bytes and no others, aligned or not', () => {
    for (const at of [0, 1, 3, 8]) {
      const memory = new Uint8Array(64 + at).fill(0xa5);
      const target = memory.subarray(at + 8, at + 8 + 3 * size);
      encodeInto(target, dtype, numbers.slice(0, 3));
      expect([...decode(dtype, target)]).toEqual(numbers.slice(0, 3));
      expect(memory.subarray(0, at + 8).every((b) => b === 0xa5)).toBe(true);
      expect(memory.subarray(at + 8 + 3 * size).every((b) => b === 0xa5)).toBe(true);
    }
  });

  it('refuses another count, with both', () => {
    const words = /^program: pos: expected 3 numbers, found 2$/;
    expect(codeOf(() => encodeInto(new Uint8Array(3 * size), dtype, [1, 2], 'pos'))).toMatch(words);
    if (size > 1) expect(codeOf(() => decode(dtype, new Uint8Array(size + 1)))).toMatch(/^program: .* no whole number/);
  });

  it('is written in place where it has an array of its own, and refused where a copy would be written instead', () => {
    const bytes = new Uint8Array(4 * size);
    if (dtype === 'f16' || dtype === 'bf16') return expect(codeOf(() => viewOf(dtype, bytes))).toMatch(/^program: /);
    viewOf(dtype, bytes)[1] = 7;
    expect([...decode(dtype, bytes)]).toEqual([0, 7, 0, 0]);
    if (size > 1) expect(codeOf(() => viewOf(dtype, bytes.subarray(1)))).toMatch(/^program: /);
  });
});

describe.each(Object.entries(WHOLE))('%s', (name, [least, most]) => {
  const dtype = name as keyof typeof WHOLE;
  it('takes its ends and nothing beyond them, nor between whole numbers', () => {
    expect([...decode(dtype, encode(dtype, [least, most]))]).toEqual([least, most]);
    for (const bad of [least - 1, most + 1, 0.5, NaN, Infinity]) {
      const said = codeOf(() => encode(dtype, [1, bad], 'y'));
      expect(said).toMatch(new RegExp(`^program: y: element 1: expected a whole number .*\\(${dtype}\\), found `));
      expect(said.endsWith(`found ${bad}`)).toBe(true);
    }
  });
});

describe('floats', () => {
  it.each(FLOATS)('%s keeps what is not finite, and the sign of 0', (dtype) => {
    const [nan, plus, minus, zero] = decode(dtype, encode(dtype, [NaN, Infinity, -Infinity, -0]));
    expect([nan, plus, minus]).toEqual([NaN, Infinity, -Infinity]);
    expect(Object.is(zero, -0)).toBe(true);
  });

  it('bfloat16 gives back every value that is one', () => {
    const bits = Uint16Array.from({ length: 65536 }, (_, i) => i);
    const values = fromBfloat(bits);
    const again = toBfloat(values);
    for (let i = 0; i < bits.length; i++) {
      const same = Number.isNaN(values[i]) ? Number.isNaN(fromBfloat(again.subarray(i, i + 1))[0]) : again[i] === i;
      if (!same) expect.fail(`${i} becomes ${again[i]}`);
    }
  });

  it('bfloat16 is the nearest one, the even one of two', () => {
    const values = [
      1 + 2 ** -8,
      1 + 3 * 2 ** -8,
      1 + 2 ** -8 + 2 ** -20,
      -3.14159,
      1e-40,
      2 ** -134,
      3 * 2 ** -135,
      0.1,
    ];
    for (const value of values) expect([value, floatToBfloat(value)]).toEqual([value, nearestBfloat(value)]);
    expect(floatToBfloat(1 + 2 ** -8)).toBe(0x3f80);
    expect(floatToBfloat(1 + 3 * 2 ** -8)).toBe(0x3f82);
    // Half a step beyond the largest.
    const most = fromBfloat(Uint16Array.of(0x7f7f))[0]!;
    expect(floatToBfloat(most)).toBe(0x7f7f);
    expect(floatToBfloat(most * (1 + 2 ** -10))).toBe(0x7f7f);
    expect(floatToBfloat(most * (1 + 2 ** -8))).toBe(0x7f80);
    expect(floatToBfloat(-1e300)).toBe(0xff80);
  });

  it('are rounded once: what float32 would make a tie of is none', () => {
    const above = 1 + 2 ** -8 + 2 ** -40;
    expect(Math.fround(above)).toBe(1 + 2 ** -8);
    expect(floatToBfloat(above)).toBe(0x3f81);
    expect(floatToBfloat(1 + 3 * 2 ** -8 - 2 ** -40)).toBe(0x3f81);
    expect(floatToHalf(1 + 2 ** -11 + 2 ** -40)).toBe(0x3c01);
    expect(floatToHalf(1 + 3 * 2 ** -11 - 2 ** -40)).toBe(0x3c01);
    expect(floatToHalf(65520 - 2 ** -30)).toBe(0x7bff);
    expect(floatToHalf(2 ** -25 + 2 ** -60)).toBe(1);
  });
});
