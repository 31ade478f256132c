/**
 * Resampling of whole volumes to another spacing: linear for images, nearest for labels. The outer edges of the two
 * grids coincide, so output voxel o lies at (o + ½)·(n / m) − ½ of the input (n voxels in, m out), clamped to the
 * first and last voxel. No files, and no copies of whole volumes.
 */
import { type Breather } from '../../breathe.js';
import { type Triple } from '../../volume.js';

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

/** For each output voxel of an axis the lower input voxel and the upper one's share. */
function linearTable(n: number, m: number): { lower: Int32Array; upper: Int32Array; share: Float64Array } {
  const lower = new Int32Array(m);
  const upper = new Int32Array(m);
  const share = new Float64Array(m);
  for (let o = 0; o < m; o++) {
    const at = Math.min(Math.max(((o + 0.5) * n) / m - 0.5, 0), n - 1);
    lower[o] = Math.min(Math.floor(at), n - 1);
    upper[o] = Math.min(lower[o]! + 1, n - 1);
    share[o] = at - lower[o]!;
  }
  return { lower, upper, share };
}

/** out = a + (b − a)·share */
function mix(out: Float32Array, a: Float32Array, b: Float32Array, share: number): void {
  if (share === 0) out.set(a);
  else for (let i = 0; i < out.length; i++) out[i] = a[i]! + (b[i]! - a[i]!) * share;
}

/**
 * One channel, plane by plane, into `out` [D', H', W']. `readPlane` fills plane d, [H, W], of the input and is asked for
 * each plane once, in order: what it computes (normalisation) needs no volume of its own.
 */
export async function resampleLinear(
  readPlane: (d: number, plane: Float32Array) => void,
  shape: Triple,
  outShape: Triple,
  out: Float32Array,
  breath: Breather,
): Promise<void> {
  const [d, h, w] = shape;
  const [od, oh, ow] = outShape;
  if (od === d && oh === h && ow === w) {
    for (let plane = 0; plane < d; plane++) {
      readPlane(plane, out.subarray(plane * h * w, (plane + 1) * h * w));
      if (breath.due()) await breath.breathe();
    }
    return;
  }
  const along = [linearTable(d, od), linearTable(h, oh), linearTable(w, ow)] as const;
  // Two input planes are held, by the parity of their number; then one plane at the output's D, then at its H too.
  const held = [new Float32Array(h * w), new Float32Array(h * w)] as const;
  const holds = [-1, -1];
  const plane = (at: number): Float32Array => {
    if (holds[at & 1] !== at) readPlane(at, held[at & 1 ? 1 : 0]);
    holds[at & 1] = at;
    return held[at & 1 ? 1 : 0];
  };
  const atD = new Float32Array(h * w);
  const atH = new Float32Array(w);
  for (let o = 0; o < od; o++) {
    mix(atD, plane(along[0].lower[o]!), plane(along[0].upper[o]!), along[0].share[o]!);
    for (let b = 0; b < oh; b++) {
      const low = along[1].lower[b]! * w;
      const high = along[1].upper[b]! * w;
      mix(atH, atD.subarray(low, low + w), atD.subarray(high, high + w), along[1].share[b]!);
      const to = (o * oh + b) * ow;
      const { lower, upper, share } = along[2];
      for (let c = 0; c < ow; c++) {
        const value = atH[lower[c]!]!;
        out[to + c] = value + (atH[upper[c]!]! - value) * share[c]!;
      }
    }
    if (breath.due()) await breath.breathe();
  }
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
