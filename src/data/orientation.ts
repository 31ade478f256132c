/**
 * Turning voxel grids to the nearest RAS and back: axes are permuted and flipped, never resampled, so both ways are
 * exact. Plain arrays in and out; no files.
 */
import { emptyLike } from '../realm.js';
import { Breather } from '../breathe.js';
import { type Grid, type Triple, type VoxelArray } from '../volume.js';

/** How a file's axes i, j, k lie in RAS. */
export interface Orientation {
  /** For each RAS axis (x, y, z): which of the file's axes runs along it. */
  axes: Triple;
  /** For each RAS axis: true where that file axis runs the other way. */
  flips: readonly [boolean, boolean, boolean];
  /** The file's own grid: voxels along i, j, k, and its affine. */
  fileShape: Triple;
  fileAffine: Float64Array;
}

/** A matrix as a grid has it, or as a caller gives it. */
type Matrix = Float64Array | readonly number[];

/** Determinant of the upper left 3×3 of a 4×4 row-major matrix. */
export function determinant3(m: Matrix): number {
  const [a, b, c, , d, e, f, , g, h, i] = m;
  return a! * (e! * i! - f! * h!) - b! * (d! * i! - f! * g!) + c! * (d! * h! - e! * g!);
}

/** The lengths of the affine's columns: spacing along i, j, k in millimetres. */
export function columnLengths(affine: Matrix): [number, number, number] {
  const length = (n: number): number => Math.hypot(affine[n]!, affine[4 + n]!, affine[8 + n]!);
  return [length(0), length(1), length(2)];
}

/** What keeps an affine of finite numbers from being a grid; undefined where it is one. */
export function affineFault(affine: Matrix): string | undefined {
  let scale = 1;
  for (const [n, length] of columnLengths(affine).entries()) {
    if (!(length > 0)) return `the affine is singular: axis ${'ijk'[n]} has length 0`;
    scale *= length;
  }
  return Math.abs(determinant3(affine)) > 1e-6 * scale ? undefined : 'the affine is singular: two axes are parallel';
}

/** All orders of three axes. */
export const ORDERS: readonly Triple[] = [
  [0, 1, 2],
  [0, 2, 1],
  [1, 0, 2],
  [1, 2, 0],
  [2, 0, 1],
  [2, 1, 0],
];

/** The permutation and flips that bring a grid nearest to RAS: the largest sum of the axes' cosines. */
export function orientationOf(fileShape: Triple, fileAffine: Float64Array): Orientation {
  const lengths = columnLengths(fileAffine);
  const cosine = (row: number, column: number): number => fileAffine[4 * row + column]! / lengths[column]!;
  let axes = ORDERS[0]!;
  let best = -1;
  for (const order of ORDERS) {
    const sum = order.reduce((total, column, row) => total + Math.abs(cosine(row, column)), 0);
    if (sum > best + 1e-9) {
      best = sum;
      axes = order;
    }
  }
  const flips = axes.map((column, row) => cosine(row, column) < 0) as [boolean, boolean, boolean];
  return { axes, flips, fileShape, fileAffine };
}

/** The grid after turning: shape and spacing as D, H, W; the affine takes (w, h, d, 1) to RAS millimetres. */
export function rasGrid(orientation: Orientation): Grid {
  const { axes, flips, fileShape, fileAffine } = orientation;
  const affine = fileAffine.slice();
  for (let row = 0; row < 3; row++) {
    let origin = fileAffine[4 * row + 3]!;
    for (let x = 0; x < 3; x++) {
      const column = axes[x]!;
      const step = fileAffine[4 * row + column]!;
      affine[4 * row + x] = flips[x] ? -step : step;
      if (flips[x]) origin += step * (fileShape[column]! - 1);
    }
    affine[4 * row + 3] = origin;
  }
  const lengths = columnLengths(affine);
  const shape: Triple = [fileShape[axes[2]]!, fileShape[axes[1]]!, fileShape[axes[0]]!];
  return { shape, spacingMm: [lengths[2], lengths[1], lengths[0]], affine };
}

/** The eight outer corners of a grid in RAS millimetres: half a voxel beyond the centres, so that one slice has a size. */
export function gridCorners({ shape, affine }: Grid): Triple[] {
  const [depth, height, width] = shape;
  const sizes = [width, height, depth];
  return Array.from({ length: 8 }, (_, corner) => {
    const at = sizes.map((n, axis) => ((corner >> axis) & 1 ? n - 0.5 : -0.5));
    const along = (row: number): number =>
      at.reduce((sum, index, column) => sum + affine[4 * row + column]! * index, affine[4 * row + 3]!);
    return [along(0), along(1), along(2)];
  });
}

export function isRas(orientation: Orientation): boolean {
  return orientation.axes.every((axis, n) => axis === n) && !orientation.flips.includes(true);
}

/**
 * Copies a box of `shape` (slowest axis first) from strided to strided memory, giving the event loop its turns.
 * Strides are in elements and may be negative.
 */
export async function copyStrided(
  source: VoxelArray,
  sourceBase: number,
  sourceStrides: Triple,
  target: VoxelArray,
  targetBase: number,
  targetStrides: Triple,
  shape: Triple,
  breath: Breather,
): Promise<void> {
  const [n0, n1, n2] = shape;
  const [s0, s1, s2] = sourceStrides;
  const [t0, t1, t2] = targetStrides;
  let sinceCheck = 0;
  for (let a = 0; a < n0; a++) {
    for (let b = 0; b < n1; b++) {
      let from = sourceBase + a * s0 + b * s1;
      let to = targetBase + a * t0 + b * t1;
      for (let c = 0; c < n2; c++) {
        target[to] = source[from]!;
        from += s2;
        to += t2;
      }
      sinceCheck += n2;
      if (sinceCheck > 65536) {
        sinceCheck = 0;
        if (breath.due()) await breath.breathe();
      }
    }
  }
}

/** Base and strides (D, H, W of RAS) with which a RAS volume is read from, or written to, the file's own order. */
function fileStrides(orientation: Orientation): { base: number; strides: Triple } {
  const { axes, flips, fileShape } = orientation;
  const steps = [1, fileShape[0], fileShape[0] * fileShape[1]];
  let base = 0;
  const strides = [0, 0, 0];
  for (let x = 0; x < 3; x++) {
    const step = steps[axes[x]!]!;
    strides[2 - x] = flips[x] ? -step : step;
    if (flips[x]) base += step * (fileShape[axes[x]!]! - 1);
  }
  return { base, strides: strides as unknown as Triple };
}

/** The same memory as one of four element types, so that the copy loop stays compiled for few of them. */
function byWidth(voxels: VoxelArray): Uint8Array | Uint16Array | Uint32Array | Float64Array {
  const { buffer, byteOffset, length } = voxels;
  switch (voxels.BYTES_PER_ELEMENT) {
    case 1:
      return new Uint8Array(buffer, byteOffset, length);
    case 2:
      return new Uint16Array(buffer, byteOffset, length);
    case 4:
      return new Uint32Array(buffer, byteOffset, length);
    default:
      return new Float64Array(buffer, byteOffset, length);
  }
}

/** File order → RAS order, channel by channel. The same array comes back where nothing has to move. */
export async function turnToRas<T extends VoxelArray>(
  voxels: T,
  orientation: Orientation,
  channels: number,
  signal?: AbortSignal,
): Promise<T> {
  return turn(voxels, orientation, channels, true, signal);
}

/** RAS order → file order, channel by channel: undoes `turnToRas`. */
export async function fromRas<T extends VoxelArray>(
  voxels: T,
  orientation: Orientation,
  channels = 1,
  signal?: AbortSignal,
): Promise<T> {
  return turn(voxels, orientation, channels, false, signal);
}

async function turn<T extends VoxelArray>(
  voxels: T,
  orientation: Orientation,
  channels: number,
  toRas: boolean,
  signal: AbortSignal | undefined,
): Promise<T> {
  if (isRas(orientation)) return voxels;
  const shape = rasGrid(orientation).shape;
  const count = shape[0] * shape[1] * shape[2];
  const { base, strides } = fileStrides(orientation);
  const plain: Triple = [shape[1] * shape[2], shape[2], 1];
  const out = emptyLike(voxels, count * channels);
  const [from, to] = [byWidth(voxels), byWidth(out)];
  const breath = new Breather(signal);
  for (let c = 0; c < channels; c++) {
    if (toRas) await copyStrided(from, c * count + base, strides, to, c * count, plain, shape, breath);
    else await copyStrided(from, c * count, plain, to, c * count + base, strides, shape, breath);
  }
  return out;
}
