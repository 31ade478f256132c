/**
 * What a volume is, inside macl. Axes are D, H, W (k, j, i of the volume turned to the nearest RAS), so W is the
 * fastest axis in memory. Lists of shapes and spacings are in that order everywhere.
 */
export type Triple = readonly [number, number, number];

export type VoxelArray =
  Int8Array | Uint8Array | Int16Array | Uint16Array | Int32Array | Uint32Array | Float32Array | Float64Array;

/**
 * What of a volume's voxels is refused, or replaced under `nonFinite: 'zero'`: beyond `FLOAT32_MAX` nothing survives
 * normalisation, and its square is beyond float64 soon after.
 */
export const NOT_FINITE = 'NaN, infinite or beyond the range of float32';

/** The stored label of voxels that count nowhere: no loss sees them, and no metric of validation. */
export const IGNORE_LABEL = 255;

/** Where voxels lie in the world. */
export interface Grid {
  /** [D, H, W] in voxels. */
  readonly shape: Triple;
  /** [D, H, W] in millimetres. */
  readonly spacingMm: Triple;
  /** 4×4 row-major, NIfTI's: (i, j, k, 1) = (w, h, d, 1) → RAS millimetres. */
  readonly affine: Float64Array;
}

/** A volume turned to RAS. Channel c, voxel (d, h, w) is at ((c·D + d)·H + h)·W + w. */
export interface Volume {
  readonly grid: Grid;
  readonly channels: number;
  readonly voxels: VoxelArray;
}
