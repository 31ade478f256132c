import { describe, expect, it } from 'vitest';
import {
  asFloat32,
  asFloat64,
  asInt32,
  rawTensor,
  readSafetensors,
  type RawTensor,
  writeSafetensors,
} from '../../src/data/safetensors.js';
import { floatToHalf, fromHalf, halfTable } from '../../src/half.js';

function file(header: string, dataBytes: number, said?: bigint): Uint8Array {
  const json = new TextEncoder().encode(header);
  const out = new Uint8Array(8 + json.length + dataBytes);
  new DataView(out.buffer).setBigUint64(0, said ?? BigInt(json.length), true);
  out.set(json, 8);
  return out;
}
const tensor = (shape: string, offsets: string, dtype = 'F32'): string =>
  `{"dtype":"${dtype}","shape":${shape},"data_offsets":${offsets}}`;

describe('safetensors', () => {
  it('writes what it reads, in one way only', () => {
    const a: [string, RawTensor] = ['b.weight', rawTensor(Float32Array.of(1, -2, 3.5, 4), [2, 2])];
    const b: [string, RawTensor] = ['a.bytes', rawTensor(Uint8Array.of(7, 8, 9), [3])];
    const c: [string, RawTensor] = ['c', rawTensor(Float64Array.of(Math.PI), [])];
    const bytes = writeSafetensors(new Map([a, b, c]), { z: 'ü', a: '1' });
    expect(writeSafetensors(new Map([c, b, a]), { a: '1', z: 'ü' })).toEqual(bytes);
    expect(Number(new DataView(bytes.buffer).getBigUint64(0, true)) % 8).toBe(0);
    const back = readSafetensors(bytes, 'x.safetensors');
    expect({ ...back.metadata }).toEqual({ a: '1', z: 'ü' });
    expect([...back.tensors.keys()]).toEqual(['c', 'b.weight', 'a.bytes']);
    expect(asFloat32(back.tensors.get('b.weight')!)).toEqual(Float32Array.of(1, -2, 3.5, 4));
    expect(asFloat64(back.tensors.get('c')!)).toEqual(Float64Array.of(Math.PI));
    expect(back.tensors.get('c')!.shape).toEqual([]);
  });

  it('copies where the bytes are not aligned, converts between types, refuses what does not fit', () => {
    const shifted = new Uint8Array(9);
    shifted.set(new Uint8Array(Float32Array.of(1.5, -1).buffer), 1);
    expect(asFloat32({ dtype: 'F32', shape: [2], bytes: shifted.subarray(1) })).toEqual(Float32Array.of(1.5, -1));
    expect(asInt32(rawTensor(Float32Array.of(3, -4), [2]))).toEqual(Int32Array.of(3, -4));
    expect(() => asInt32(rawTensor(Float32Array.of(0.5), [1]), 'pos')).toThrow(/pos.*0\.5/);
    const i64 = { dtype: 'I64' as const, shape: [1], bytes: new Uint8Array(BigInt64Array.of(2n ** 60n + 1n).buffer) };
    expect(() => asFloat64(i64, 'n')).toThrow(/n: 1152921504606846977/);
    expect(asFloat32({ dtype: 'BF16', shape: [1], bytes: Uint8Array.of(0x80, 0x3f) })).toEqual(Float32Array.of(1));
    expect(asFloat32({ dtype: 'F16', shape: [2], bytes: Uint8Array.of(0, 0x3c, 1, 0) })).toEqual(
      Float32Array.of(1, 2 ** -24),
    );
  });

  it.each([
    ['overlapping', `{"a":${tensor('[2]', '[0,8]')},"b":${tensor('[2]', '[4,12]')}}`, 12, /"b".*overlaps/],
    ['gapped', `{"a":${tensor('[1]', '[0,4]')},"b":${tensor('[1]', '[8,12]')}}`, 12, /"b".*gap/],
    ['gap at the start', `{"a":${tensor('[1]', '[4,8]')}}`, 8, /gap/],
    ['bytes that nobody owns', `{"a":${tensor('[1]', '[0,4]')}}`, 8, /4 bytes, the file has 8/],
    ['past the end', `{"a":${tensor('[2]', '[0,8]')}}`, 4, /8 bytes, the file has 4/],
    ['backwards', `{"a":${tensor('[1]', '[4,0]')}}`, 4, /backwards/],
    ['overflowing offsets', `{"a":${tensor('[1]', '[18446744073709551612,18446744073709551616]')}}`, 4, /2\^53/],
    ['overflowing shape', `{"a":${tensor('[4294967296,4294967296]', '[0,4]')}}`, 4, /overflows/],
    ['wrong size', `{"a":${tensor('[3]', '[0,8]')}}`, 8, /hold 8 bytes.*needs 12/],
    ['negative shape', `{"a":${tensor('[-1]', '[0,4]')}}`, 4, /shape/],
    ['fraction', `{"a":${tensor('[1.5]', '[0,6]')}}`, 6, /shape/],
    ['doubled key', `{"a":${tensor('[1]', '[0,4]')},"a":${tensor('[1]', '[0,4]')}}`, 4, /"a" is there twice/],
    ['doubled by escape', `{"a":${tensor('[1]', '[0,4]')},"\\u0061":${tensor('[1]', '[0,4]')}}`, 4, /twice/],
    ['unknown dtype', `{"a":${tensor('[1]', '[0,4]', 'F31')}}`, 4, /F31/],
    ['dtype of the prototype', `{"a":${tensor('[1]', '[0,4]', 'toString')}}`, 4, /dtype/],
    ['extra key', `{"a":{"dtype":"F32","shape":[1],"data_offsets":[0,4],"x":1}}`, 4, /unknown key "x"/],
    ['metadata that is no text', `{"__metadata__":{"a":1}}`, 0, /__metadata__\.a/],
    ['not JSON', `{"a":`, 0, /header/],
    ['something behind', `{} {}`, 0, /follows/],
    ['deep nesting', `{"a":${'['.repeat(100)}`, 0, /deep/],
  ])('refuses %s', (_name, header, dataBytes, message) => {
    expect(() => readSafetensors(file(header, dataBytes), 'w.safetensors')).toThrow(message);
    expect(() => readSafetensors(file(header, dataBytes), 'w.safetensors')).toThrow(/^w\.safetensors: /);
  });

  it('refuses an oversized header before reading it', () => {
    expect(() => readSafetensors(file('{}', 0, 2n ** 63n), 'w')).toThrow(/header length.*at most/);
    expect(() => readSafetensors(file('{}', 0, 1000n), 'w')).toThrow(/header length.*has 2/);
    expect(() => readSafetensors(new Uint8Array(5), 'w')).toThrow(/header length/);
  });

  it('keeps __proto__ an ordinary key', () => {
    const bytes = file(`{"__metadata__":{"__proto__":"x"},"__proto__":${tensor('[1]', '[0,4]')}}`, 4);
    const { tensors, metadata } = readSafetensors(bytes, 'w');
    expect(tensors.has('__proto__')).toBe(true);
    expect(Object.keys(metadata)).toEqual(['__proto__']);
    expect(({} as Record<string, unknown>).x).toBeUndefined();
  });
});

describe('binary16', () => {
  it('gives back every value that is one, and rounds to even between two', () => {
    const table = halfTable();
    for (let bits = 0; bits < 65536; bits++) {
      if (Number.isNaN(table[bits])) continue;
      if (floatToHalf(table[bits]!) !== bits) expect.fail(`${bits} becomes ${floatToHalf(table[bits]!)}`);
    }
    expect(floatToHalf(1 + 2 ** -11)).toBe(0x3c00);
    expect(floatToHalf(1 + 3 * 2 ** -11)).toBe(0x3c02);
    expect(floatToHalf(65519)).toBe(0x7bff);
    expect(floatToHalf(65520)).toBe(0x7c00);
    expect(floatToHalf(2 ** -25)).toBe(0);
    expect(floatToHalf(2 ** -25 * 1.01)).toBe(1);
    expect(Number.isNaN(fromHalf(Uint16Array.of(floatToHalf(NaN)))[0])).toBe(true);
  });
});
