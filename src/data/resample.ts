/**
 * Resampling of whole volumes to another spacing: linear for images, nearest for labels. The outer edges of the two
 * grids coincide, so output voxel o lies at (o + ½)·(n / m) − ½ of the input (n voxels in, m out), clamped to the
 * first and last voxel. No files.
 */
import { type Breather } from './breathe.js';
import { type Triple } from './volume.js';

/** Spacings closer than this, relative, count as equal: headers hold float32. */
const SAME_SPACING = 1e-3;

/** The shape at another spacing, at least 1 an axis. */
export function resampledShape(shape: Triple, spacingMm: Triple, targetMm: Triple): Triple {
  const size = (axis: 0 | 1 | 2): number => {
    if (Math.abs(spacingMm[axis] / targetMm[axis] - 1) < SAME_SPACING) return shape[axis];
    return Math.max(1, Math.round((shape[axis] * spacingMm[axis]) / targetMm[axis]));
  };
  return [size(0), size(1), size(2)];
}

/** The spacing that a volume has after its shape has become `outShape`: the extent stays as it was. */
export function resampledSpacing(shape: Triple, spacingMm: Triple, outShape: Triple): Triple {
  const mm = (axis: 0 | 1 | 2): number => (spacingMm[axis] * shape[axis]) / outShape[axis];
  return [mm(0), mm(1), mm(2)];
}

/** One axis, as [outer, n, inner] → [outer, m, inner]. */
async function linearAxis(
  source: Float32Array,
  outer: number,
  n: number,
  m: number,
  inner: number,
  breath: Breather,
): Promise<Float32Array> {
  const out = new Float32Array(outer * m * inner);
  for (let a = 0; a < outer; a++) {
    for (let o = 0; o < m; o++) {
      const at = Math.min(Math.max(((o + 0.5) * n) / m - 0.5, 0), n - 1);
      const lower = Math.min(Math.floor(at), n - 1);
      const share = at - lower;
      const from = (a * n + lower) * inner;
      const next = lower + 1 < n ? from + inner : from;
      const to = (a * m + o) * inner;
      if (inner === 1) out[to] = source[from]! + (source[next]! - source[from]!) * share;
      else {
        for (let i = 0; i < inner; i++) {
          const value = source[from + i]!;
          out[to + i] = value + (source[next + i]! - value) * share;
        }
      }
    }
    if (breath.due()) await breath.breathe();
  }
  return out;
}

/** [C, D, H, W] → [C, D', H', W']; the same array where nothing changes. */
export async function resampleLinear(
  voxels: Float32Array,
  channels: number,
  shape: Triple,
  outShape: Triple,
  breath: Breather,
): Promise<Float32Array> {
  const [d, h, w] = shape;
  const [od, oh, ow] = outShape;
  let now = voxels;
  // Along D first, row by row of the slice, so that no call runs long; then H, then W.
  if (od !== d) {
    const out = new Float32Array(channels * od * h * w);
    for (let c = 0; c < channels; c++) {
      for (let o = 0; o < od; o++) {
        const at = Math.min(Math.max(((o + 0.5) * d) / od - 0.5, 0), d - 1);
        const lower = Math.min(Math.floor(at), d - 1);
        const share = at - lower;
        const from = (c * d + lower) * h * w;
        const next = lower + 1 < d ? from + h * w : from;
        const to = (c * od + o) * h * w;
        for (let i = 0; i < h * w; i++) {
          const value = now[from + i]!;
          out[to + i] = value + (now[next + i]! - value) * share;
        }
        if (breath.due()) await breath.breathe();
      }
    }
    now = out;
  }
  if (oh !== h) now = await linearAxis(now, channels * od, h, oh, w, breath);
  if (ow !== w) now = await linearAxis(now, channels * od * oh, w, ow, 1, breath);
  return now;
}

function nearestTable(n: number, m: number): Int32Array {
  return Int32Array.from({ length: m }, (_, o) => Math.min(n - 1, Math.floor(((o + 0.5) * n) / m)));
}

/** [D, H, W] → [D', H', W']; the same array where nothing changes. */
export async function resampleNearest(
  labels: Uint8Array,
  shape: Triple,
  outShape: Triple,
  breath: Breather,
): Promise<Uint8Array> {
  if (shape.every((n, axis) => n === outShape[axis])) return labels;
  const [, h, w] = shape;
  const [od, oh, ow] = outShape;
  const [td, th, tw] = [0, 1, 2].map((axis) => nearestTable(shape[axis]!, outShape[axis]!)) as [
    Int32Array,
    Int32Array,
    Int32Array,
  ];
  const out = new Uint8Array(od * oh * ow);
  for (let a = 0; a < od; a++) {
    for (let b = 0; b < oh; b++) {
      const from = (td[a]! * h + th[b]!) * w;
      const to = (a * oh + b) * ow;
      for (let c = 0; c < ow; c++) out[to + c] = labels[from + tw[c]!]!;
    }
    if (breath.due()) await breath.breathe();
  }
  return out;
}
