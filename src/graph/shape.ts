/** Sizes and addresses of tensors: elements, row strides, the buffer that a view lies in. Pure arithmetic. */
import { MaclError } from '../errors.js';
import { DTYPE_BYTES, type Shape, type Tensor } from './types.js';

export function sizeOf(shape: Shape): number {
  return shape[0] * shape[1] * shape[2] * shape[3] * shape[4];
}

export interface Place {
  /** The tensor that owns the memory. */
  readonly root: Tensor;
  /** Elements from the root's start. */
  readonly offset: number;
  /** Elements from one voxel to the next. */
  readonly ld: number;
}

/** Follows views down to the tensor that owns the memory. */
export function placeOf(t: Tensor): Place {
  if (!t.view) return { root: t, offset: 0, ld: t.shape[4] };
  const outer = placeOf(t.view.of);
  const { offset, dense, voxel = 0 } = t.view;
  if (dense) return { root: outer.root, offset: outer.offset + offset, ld: t.shape[4] };
  return { root: outer.root, offset: outer.offset + voxel * outer.ld + offset, ld: outer.ld };
}

/** Bytes that an owning tensor takes. */
export function bytesOf(t: Tensor): number {
  if (t.opaque) {
    if (t.bytes === undefined) throw new MaclError('program', `${t.name}: the backend was not asked for its size`);
    return t.bytes;
  }
  return sizeOf(t.shape) * DTYPE_BYTES[t.dtype];
}

/** Bytes from a tensor's first to its last element. */
export function extentOf(t: Tensor): number {
  if (t.opaque) return bytesOf(t);
  const voxels = sizeOf(t.shape) / t.shape[4];
  return ((voxels - 1) * placeOf(t).ld + t.shape[4]) * DTYPE_BYTES[t.dtype];
}

export function sameShape(a: Shape, b: Shape): boolean {
  return a.every((s, i) => s === b[i]);
}

export function showShape(shape: Shape): string {
  return shape.join('×');
}
