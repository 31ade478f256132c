/** A small encoder of docs/program.md, independent of src/graph/program.ts, for programs that the compiler would not make. */

export const F32 = 0;
export const F64 = 1;
export const I32 = 2;
export const U8 = 6;
export const STATE = 0;
export const SCRATCH = 1;
export const IO = 2;
export const STORE = 3;

export interface TinyTensor {
  segment: number;
  dtype: number;
  offset: number;
  shape: number[];
  ld?: number;
  bytes?: number;
}
export interface TinyCall {
  kernel: string;
  tensors: (TinyTensor | null)[];
  attrs: number[];
  /** Which attributes are i64 (others are f64); all by default f64. */
  whole?: boolean;
  /** The kind of each, where they differ. */
  kinds?: readonly ('i64' | 'f64')[];
  commit?: boolean;
}
export interface TinyProgram {
  calls: TinyCall[];
  guard?: { segment: number; offset: number };
  sizes?: [number, number, number, number];
}

const SIZE = [4, 8, 4, 2, 2, 2, 1];

export function tensor(segment: number, dtype: number, offset: number, ...shape: number[]): TinyTensor {
  return { segment, dtype, offset, shape: [1, 1, 1, 1, 1].map((_, i) => shape[i - (5 - shape.length)] ?? 1) };
}

export function encode(program: TinyProgram): Uint8Array {
  const names = [...new Set(program.calls.map((c) => c.kernel))];
  const parts: Uint8Array[] = [];
  const head = new DataView(new ArrayBuffer(64));
  head.setUint32(0, 0x4c43414d, true);
  head.setUint32(4, 1, true);
  head.setUint32(8, program.calls.length, true);
  head.setUint32(12, names.length, true);
  head.setInt32(16, program.guard?.segment ?? -1, true);
  head.setBigInt64(24, BigInt(program.guard?.offset ?? 0), true);
  (program.sizes ?? [0, 0, 0, 0]).forEach((s, i) => head.setBigInt64(32 + 8 * i, BigInt(s), true));
  parts.push(new Uint8Array(head.buffer));
  for (const name of names) {
    const bytes = new Uint8Array(Math.ceil((4 + name.length) / 8) * 8);
    new DataView(bytes.buffer).setUint32(0, name.length, true);
    bytes.set(new TextEncoder().encode(name), 4);
    parts.push(bytes);
  }
  for (const call of program.calls) {
    const v = new DataView(new ArrayBuffer(16 + 80 * call.tensors.length + 8 * call.attrs.length));
    v.setUint32(0, names.indexOf(call.kernel), true);
    v.setUint32(4, call.commit ? 1 : 0, true);
    v.setUint32(8, call.tensors.length, true);
    v.setUint32(12, 8 * call.attrs.length, true);
    call.tensors.forEach((t, i) => {
      const at = 16 + 80 * i;
      if (!t) return v.setInt32(at, -1, true);
      const ld = t.ld ?? (t.shape[4] as number);
      const voxels = t.shape.slice(0, 4).reduce((a, b) => a * b, 1);
      const bytes = t.bytes ?? ((voxels - 1) * ld + (t.shape[4] as number)) * (SIZE[t.dtype] ?? 1);
      v.setInt32(at, t.segment, true);
      v.setInt32(at + 4, t.dtype, true);
      [t.offset, bytes, ...t.shape, ld, 0].forEach((n, k) => v.setBigInt64(at + 8 + 8 * k, BigInt(n), true));
    });
    call.attrs.forEach((a, i) => {
      const at = 16 + 80 * call.tensors.length + 8 * i;
      if (call.kinds ? call.kinds[i] === 'i64' : call.whole) v.setBigInt64(at, BigInt(a), true);
      else v.setFloat64(at, a, true);
    });
    parts.push(new Uint8Array(v.buffer));
  }
  const out = new Uint8Array(parts.reduce((n, p) => n + p.length, 0));
  let at = 0;
  for (const p of parts) {
    out.set(p, at);
    at += p.length;
  }
  return out;
}

/** y ← value. */
export const fill = (y: TinyTensor, value: number, commit = false): TinyCall => ({
  kernel: 'fill_fwd',
  tensors: [y],
  attrs: [value],
  commit,
});
/** y ← a + b. */
export const add = (a: TinyTensor, b: TinyTensor, y: TinyTensor, commit = false): TinyCall => ({
  kernel: 'add_fwd',
  tensors: [a, b, y],
  attrs: [0],
  whole: true,
  commit,
});
/** y ← x (1: y ← y + x). */
export const copy = (x: TinyTensor, y: TinyTensor, accumulate = 0, commit = false): TinyCall => ({
  kernel: 'copy_fwd',
  tensors: [x, y],
  attrs: [accumulate],
  whole: true,
  commit,
});
