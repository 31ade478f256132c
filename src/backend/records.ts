/**
 * The tensor records of the program format (docs/program.md), for asking a backend how large an opaque tensor is. Pure.
 * Programs themselves are encoded in src/graph/program.ts.
 */
import type { DType, SegmentName } from '../graph/types.js';
import type { TensorInfo } from './types.js';

export const RECORD_BYTES = 80;

// The numbers of native/ops/types.h; a test holds them against the compiler's (src/graph/types.ts), which lies above.
export const DTYPE_CODES: Readonly<Record<DType, number>> = { f32: 0, f64: 1, i32: 2, i16: 3, f16: 4, bf16: 5, u8: 6 };
export const SEGMENT_ORDER = ['state', 'scratch', 'io', 'store'] as const satisfies readonly SegmentName[];

/** 80 bytes a tensor; address and size are left 0, an absent tensor has segment −1. */
export function encodeTensorInfos(tensors: readonly (TensorInfo | null)[]): Uint8Array {
  const bytes = new Uint8Array(RECORD_BYTES * tensors.length);
  const view = new DataView(bytes.buffer);
  tensors.forEach((t, i) => {
    const at = i * RECORD_BYTES;
    if (!t) return view.setInt32(at, -1, true);
    view.setInt32(at + 4, DTYPE_CODES[t.dtype], true);
    for (let axis = 0; axis < 5; axis++) view.setBigInt64(at + 24 + 8 * axis, BigInt(t.shape[axis] ?? 1), true);
    view.setBigInt64(at + 64, BigInt(t.ld), true);
  });
  return bytes;
}
