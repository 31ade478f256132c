/**
 * Surfaces of masks and the distances between them. A surface is the mask less its erosion by the face neighbours
 * (6 in 3-D, 4 in 2-D); outside the volume counts as background, so a mask has a surface at the volume's edge. An axis
 * along which the volume is one voxel thick is no axis: that is the 2-D case. Pure arrays, no files.
 */
import { Breather } from '../breathe.js';
import { type Triple } from '../volume.js';
import { squaredDistanceMm2 } from './distance.js';

/**
 * The surface of `mask` ([D, H, W], not 0 is inside), 1 on it and 0 elsewhere. `axes[a]` false leaves the neighbours
 * along axis a out. Beyond the array is background.
 */
export async function surfaceOf(
  mask: Uint8Array,
  shape: Triple,
  axes: readonly [boolean, boolean, boolean],
  breath: Breather = new Breather(),
): Promise<Uint8Array> {
  const [depth, height, width] = shape;
  const plane = height * width;
  const out = new Uint8Array(mask.length);
  const [alongD, alongH, alongW] = axes;
  for (let d = 0; d < depth; d++) {
    for (let h = 0; h < height; h++) {
      // At the array's edge the neighbour is background, whatever the voxel is.
      const edge = (alongD && (d === 0 || d === depth - 1)) || (alongH && (h === 0 || h === height - 1));
      const row = d * plane + h * width;
      for (let w = 0; w < width; w++) {
        const i = row + w;
        if (!mask[i]) continue;
        if (
          edge ||
          (alongW && (w === 0 || w === width - 1 || !mask[i - 1] || !mask[i + 1])) ||
          (alongH && (!mask[i - width] || !mask[i + width])) ||
          (alongD && (!mask[i - plane] || !mask[i + plane]))
        ) {
          out[i] = 1;
        }
      }
    }
    if (breath.due()) await breath.breathe();
  }
  return out;
}

/** Distances in mm from each voxel of surface `from` to the nearest voxel of surface `to`, in memory order. */
export async function surfaceDistancesMm(
  from: Uint8Array,
  to: Uint8Array,
  shape: Triple,
  spacingMm: Triple,
  breath: Breather = new Breather(),
): Promise<Float64Array> {
  const squared = await squaredDistanceMm2(to, shape, spacingMm, breath);
  const plane = shape[1] * shape[2];
  let count = 0;
  for (let d = 0; d < shape[0]; d++) {
    for (let i = d * plane; i < (d + 1) * plane; i++) count += from[i]!;
    if (breath.due()) await breath.breathe();
  }
  const out = new Float64Array(count);
  let at = 0;
  for (let d = 0; d < shape[0]; d++) {
    for (let i = d * plane; i < (d + 1) * plane; i++) {
      if (from[i]) out[at++] = Math.sqrt(squared[i]!);
    }
    if (breath.due()) await breath.breathe();
  }
  return out;
}

/**
 * Brings the k-th smallest value to position k, smaller or equal ones before it (three-way quickselect: distances on a
 * grid repeat a lot). Reorders `values`.
 */
async function select(values: Float64Array, k: number, breath: Breather): Promise<number> {
  let low = 0;
  let high = values.length - 1;
  while (low < high) {
    const a = values[low]!;
    const b = values[(low + high) >>> 1]!;
    const c = values[high]!;
    const pivot = Math.max(Math.min(a, b), Math.min(Math.max(a, b), c));
    let less = low;
    let greater = high;
    let i = low;
    while (i <= greater) {
      const value = values[i]!;
      if (value < pivot) {
        values[i++] = values[less]!;
        values[less++] = value;
      } else if (value > pivot) {
        values[i] = values[greater]!;
        values[greater--] = value;
      } else {
        i++;
      }
    }
    if (k < less) high = less - 1;
    else if (k > greater) low = greater + 1;
    else break;
    if (breath.due()) await breath.breathe();
  }
  return values[k]!;
}

/**
 * The q-th percentile (0 … 100) by linear interpolation between the nearest ranks, as NumPy's default. Reorders
 * `values`; NaN for none.
 */
export async function percentile(values: Float64Array, q: number, breath: Breather = new Breather()): Promise<number> {
  if (values.length === 0) return NaN;
  const rank = (q / 100) * (values.length - 1);
  const k = Math.floor(rank);
  const lower = await select(values, k, breath);
  if (rank === k) return lower;
  // Everything behind k is at least as large; the next rank is the least of it.
  let upper = Infinity;
  for (let i = k + 1; i < values.length; i++) if (values[i]! < upper) upper = values[i]!;
  return lower + (upper - lower) * (rank - k);
}

/** The arithmetic mean; NaN for none. */
export function mean(values: ArrayLike<number>): number {
  let sum = 0;
  for (let i = 0; i < values.length; i++) sum += values[i]!;
  return sum / values.length;
}
