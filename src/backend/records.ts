/** Asking a backend how large an opaque tensor is: a kernel call's tensors as records of the program format. Pure. */
import { RECORD_BYTES, writeRecord } from '../program-record.js';
import type { TensorInfo } from './types.js';

export { SEGMENT_ORDER } from '../program-record.js';

/** 80 bytes a tensor; address and size are left 0, an absent tensor has segment −1. */
export function encodeTensorInfos(tensors: readonly (TensorInfo | null)[]): Uint8Array {
  const bytes = new Uint8Array(RECORD_BYTES * tensors.length);
  const view = new DataView(bytes.buffer);
  tensors.forEach((t, i) => writeRecord(view, i * RECORD_BYTES, t && { segment: 'state', offset: 0, bytes: 0, ...t }));
  return bytes;
}
