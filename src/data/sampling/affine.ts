/**
 * Affines of views: from a patch's voxels to a volume's, with rotation, scale, mirrors and shift about the patch's
 * centre. Angles and lengths are physical, so that an anisotropic volume turns without shear. No volumes are touched.
 */
import type { Triple } from '../../volume.js';

/** What a spatial augmentation decided. */
export interface SpatialChange {
  /** Radians about D, H, W, applied in this order. */
  readonly rotation: Triple;
  /** Above 1: things look larger. */
  readonly scale: number;
  readonly mirror: readonly [boolean, boolean, boolean];
  /** Voxels of the volume that the centre moves by. */
  readonly shift: Triple;
}

export const NO_CHANGE: SpatialChange = {
  rotation: [0, 0, 0],
  scale: 1,
  mirror: [false, false, false],
  shift: [0, 0, 0],
};

type Matrix = number[][];
const GRID = 2 ** 36;

const multiply = (a: Matrix, b: Matrix): Matrix =>
  a.map((row) => [0, 1, 2].map((j) => row.reduce((sum, x, k) => sum + x * (b[k]![j] as number), 0)));

/** Rotation about one of the axes D, H, W. */
function about(axis: 0 | 1 | 2, angle: number): Matrix {
  const [c, s] = [Math.cos(angle), Math.sin(angle)];
  if (axis === 0) return [[1, 0, 0], [0, c, -s], [0, s, c]]; // prettier-ignore
  if (axis === 1) return [[c, 0, s], [0, 1, 0], [-s, 0, c]]; // prettier-ignore
  return [[c, -s, 0], [s, c, 0], [0, 0, 1]]; // prettier-ignore
}

/**
 * 3×4 row-major: output voxel (d, h, w, 1) of a patch → voxel of the volume.
 * @param start the volume's voxel that the patch's first voxel lies on when nothing changes (may be negative)
 */
export function patchAffine(patch: Triple, start: Triple, spacingMm: Triple, change: SpatialChange): number[] {
  const turned = change.rotation.some((angle) => angle !== 0);
  let m: Matrix = [[1, 0, 0], [0, 1, 0], [0, 0, 1]]; // prettier-ignore
  if (turned) {
    for (const axis of [0, 1, 2] as const) m = multiply(about(axis, change.rotation[axis]), m);
    m = m.map((row, i) => row.map((x, j) => (x * spacingMm[j as 0]) / spacingMm[i as 0]));
  }
  const rows = m.map((row, i) => {
    const linear = row.map((x, j) => (change.mirror[j as 0] ? -x : x) / change.scale);
    const centre = linear.reduce((sum, x, j) => sum + (x * (patch[j as 0] - 1)) / 2, 0);
    const offset = start[i as 0] + (patch[i as 0] - 1) / 2 + change.shift[i as 0] - centre;
    return [...linear, offset];
  });
  // Multiples of 2^-36: positions and their shifts by whole voxels are then exact, so that a box of a volume gives the
  // same bits as the whole.
  return rows.flat().map((x) => (Math.round(x * GRID) || 0) / GRID);
}

/** Where a point of the output lies in the volume. */
export function applyAffine(affine: readonly number[], point: Triple): Triple {
  const row = (i: number) =>
    affine[4 * i]! * point[0] + affine[4 * i + 1]! * point[1] + affine[4 * i + 2]! * point[2] + affine[4 * i + 3]!;
  return [row(0), row(1), row(2)];
}

export interface Box {
  readonly start: Triple;
  readonly shape: Triple;
}

/** Voxels on each side that an interpolation reads around a point. */
export const TAPS = { nearest: 1, linear: 1, cubic: 2 } as const;

/**
 * The part of a volume that a patch reads: enough to copy in where the whole does not fit. At least one voxel, also
 * where the patch misses the volume.
 */
export function boxOf(affine: readonly number[], patch: Triple, shape: Triple, taps: number): Box {
  const low = [Infinity, Infinity, Infinity];
  const high = [-Infinity, -Infinity, -Infinity];
  for (let corner = 0; corner < 8; corner++) {
    const at = applyAffine(affine, [
      corner & 1 ? patch[0] - 1 : 0,
      corner & 2 ? patch[1] - 1 : 0,
      corner & 4 ? patch[2] - 1 : 0,
    ]);
    for (const axis of [0, 1, 2] as const) {
      low[axis] = Math.min(low[axis]!, at[axis]);
      high[axis] = Math.max(high[axis]!, at[axis]);
    }
  }
  const first = (axis: 0 | 1 | 2) => Math.min(shape[axis] - 1, Math.max(0, Math.floor(low[axis]!) - taps));
  const start: Triple = [first(0), first(1), first(2)];
  const size = (axis: 0 | 1 | 2) => Math.max(1, Math.min(shape[axis], Math.ceil(high[axis]!) + taps + 1) - start[axis]);
  return { start, shape: [size(0), size(1), size(2)] };
}

/** The same affine for a volume of which only the box from `start` on is there. */
export function relativeTo(affine: readonly number[], start: Triple): number[] {
  return affine.map((x, i) => (i % 4 === 3 ? x - start[(i >> 2) as 0] : x));
}
