/**
 * The vocabulary of programs' bytes (docs/program.md, native/ops/types.h): numbers of dtypes and segments, and the 80-byte
 * record of a tensor, which the compiler writes into programs and a backend into questions. It knows no graph.
 */

/** dtype → number in `native/ops/types.h`. */
export const DTYPES = { f32: 0, f64: 1, i32: 2, i16: 3, f16: 4, bf16: 5, u8: 6 } as const;
export type DType = keyof typeof DTYPES;
export const DTYPE_BYTES: Readonly<Record<DType, number>> = { f32: 4, f64: 8, i32: 4, i16: 2, f16: 2, bf16: 2, u8: 1 };

/** Segment → number in `native/ops/types.h`. An address is (segment, byte offset). */
export const SEGMENTS = { state: 0, scratch: 1, io: 2, store: 3 } as const;
export type SegmentName = keyof typeof SEGMENTS;
/** The segments' names by number. */
export const SEGMENT_ORDER = ['state', 'scratch', 'io', 'store'] as const satisfies readonly SegmentName[];

export const RECORD_BYTES = 80;

export interface TensorRecord {
  readonly segment: SegmentName;
  readonly dtype: DType;
  /** Bytes from the segment's start; 0 in a question. */
  readonly offset: number;
  /** Bytes that the tensor touches; 0 in a question. */
  readonly bytes: number;
  readonly shape: readonly number[];
  /** Elements from one voxel to the next. */
  readonly ld: number;
}

/** @param record null for an absent tensor: segment −1, all else 0 (the bytes must be 0 before) */
export function writeRecord(view: DataView, at: number, record: TensorRecord | null): void {
  if (!record) return view.setInt32(at, -1, true);
  view.setInt32(at, SEGMENTS[record.segment], true);
  view.setInt32(at + 4, DTYPES[record.dtype], true);
  const words = [record.offset, record.bytes, ...[0, 1, 2, 3, 4].map((axis) => record.shape[axis] ?? 1), record.ld];
  words.forEach((v, i) => view.setBigInt64(at + 8 + i * 8, BigInt(v), true));
}
