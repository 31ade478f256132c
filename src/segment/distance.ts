/**
 * Exact Euclidean distance transform on a grid with its own spacing on each axis: one scan along W, then the lower
 * envelope of parabolas along H and D (Felzenszwalb and Huttenlocher, "Distance transforms of sampled functions",
 * Theory of Computing 8, 2012). Float64, no files, gives the event loop its turns. Surfaces are
 * `metrics-surface.ts`.
 */
import { Breather } from '../breathe.js';
import { type Triple } from '../volume.js';

/** A part of a volume: first voxel and size on D, H, W. */
export interface Box {
  readonly start: Triple;
  readonly size: Triple;
}

/** Copies the part of a volume that lies in `box`. */
function cropMask(mask: Uint8Array, shape: Triple, box: Box): Uint8Array {
  const [, height, width] = shape;
  const [d0, h0, w0] = box.start;
  const [depth, rows, columns] = box.size;
  const out = new Uint8Array(depth * rows * columns);
  let at = 0;
  for (let d = 0; d < depth; d++) {
    for (let h = 0; h < rows; h++) {
      const from = ((d0 + d) * height + h0 + h) * width + w0;
      out.set(mask.subarray(from, from + columns), at);
      at += columns;
    }
  }
  return out;
}

/** Squared distance along W to the nearest seed of one row, Infinity where the row has none. */
function scanRow(seeds: Uint8Array, out: Float64Array, start: number, length: number, spacing: number): void {
  let last = -1;
  for (let i = 0; i < length; i++) {
    if (seeds[start + i]) last = i;
    const away = last < 0 ? Infinity : (i - last) * spacing;
    out[start + i] = away * away;
  }
  last = -1;
  for (let i = length - 1; i >= 0; i--) {
    if (seeds[start + i]) last = i;
    if (last < 0) continue;
    const away = (last - i) * spacing;
    const squared = away * away;
    if (squared < out[start + i]!) out[start + i] = squared;
  }
}

/** Room for one line of the longest axis, made once. */
interface Line {
  values: Float64Array;
  /** Where each parabola of the envelope has its lowest point. */
  roots: Int32Array;
  /** From where on each parabola is the lowest, in voxels. */
  from: Float64Array;
}

/** Replaces one line of squared distances by the lower envelope of the parabolas that stand on it. */
function envelope(
  data: Float64Array,
  start: number,
  stride: number,
  length: number,
  spacing: number,
  line: Line,
): void {
  const { values, roots, from } = line;
  const square = spacing * spacing;
  let top = -1;
  for (let q = 0, at = start; q < length; q++, at += stride) {
    const value = data[at]!;
    values[q] = value;
    // A parabola at infinity is nowhere the lowest.
    if (value === Infinity) continue;
    let cross = -Infinity;
    while (top >= 0) {
      const root = roots[top]!;
      cross = (value - values[root]! + square * (q * q - root * root)) / (2 * square * (q - root));
      if (cross > from[top]!) break;
      top--;
    }
    top++;
    roots[top] = q;
    from[top] = top === 0 ? -Infinity : cross;
  }
  if (top < 0) return;
  let k = 0;
  for (let p = 0, at = start; p < length; p++, at += stride) {
    while (k < top && from[k + 1]! <= p) k++;
    const away = (p - roots[k]!) * spacing;
    data[at] = values[roots[k]!]! + away * away;
  }
}

/**
 * Squared distance in mm² from every voxel's centre to the nearest voxel where `seeds` is not 0; Infinity everywhere
 * where there is none. `seeds` and the result are [D, H, W], W fastest; D = 1 is the 2-D case.
 * Throws MaclError `aborted`.
 */
export async function squaredDistanceMm2(
  seeds: Uint8Array,
  shape: Triple,
  spacingMm: Triple,
  breath: Breather = new Breather(),
): Promise<Float64Array> {
  const [depth, height, width] = shape;
  const plane = height * width;
  const out = new Float64Array(depth * plane);
  for (let row = 0; row < depth * height; row++) {
    scanRow(seeds, out, row * width, width, spacingMm[2]);
    if (breath.due()) await breath.breathe();
  }
  const longest = Math.max(depth, height);
  const line: Line = {
    values: new Float64Array(longest),
    roots: new Int32Array(longest),
    from: new Float64Array(longest),
  };
  if (height > 1) {
    for (let d = 0; d < depth; d++) {
      for (let w = 0; w < width; w++) {
        envelope(out, d * plane + w, width, height, spacingMm[1], line);
        if ((w & 31) === 0 && breath.due()) await breath.breathe();
      }
    }
  }
  if (depth > 1) {
    for (let i = 0; i < plane; i++) {
      envelope(out, i, plane, depth, spacingMm[0], line);
      if ((i & 31) === 0 && breath.due()) await breath.breathe();
    }
  }
  return out;
}

/** `squaredDistanceMm2` of the part of a volume in `box`: seeds outside the box are not seen. The result has the box's size. */
export async function squaredDistanceInBox(
  seeds: Uint8Array,
  shape: Triple,
  spacingMm: Triple,
  box: Box,
  breath?: Breather,
): Promise<Float64Array> {
  return squaredDistanceMm2(cropMask(seeds, shape, box), box.size, spacingMm, breath);
}
