/**
 * Whether two volumes lie on one grid: the only comparison there is, in millimetres at the corners (docs/geometry.md).
 * A file is brought onto the other grid by permuting and flipping its axes, never by comparing names of axes, which tie
 * at oblique angles. No files.
 */
import { MaclError } from '../errors.js';
import { millimetresPerUnit } from './nifti/header.js';
import { columnLengths, gridCorners, type Orientation, ORDERS, orientationOf, rasGrid } from './orientation.js';
import { type Grid, type Triple } from '../volume.js';

/** Corners this near are one grid. */
const SAME_MM = 1e-3;
/** Corners up to this many voxels apart are one grid with a warning. */
const NEAR_VOXELS = 0.5;
/** Spacings that differ by more than this share are two grids, wherever the corners lie. */
const NEAR_SPACING = 0.05;
/** Spacings of a volume that lies nowhere count as equal within this share: headers hold float32. */
const SPACING_SHARE = 1e-3;

/** What a file's header says of its place; a NiftiHeader is one. */
export interface Placement {
  /** Voxels along i, j, k. */
  shape: Triple;
  /** In millimetres. */
  affine: Float64Array;
  affineSource: 'sform' | 'qform' | 'pixdim';
  /** xyzt_units' code of length, 0 where it is not said. */
  lengthUnit: number;
}

export interface Fit {
  /** Turns the file's voxels onto the other grid. */
  orientation: Orientation;
  /** What was overlooked to call them one grid. */
  warning?: string;
}

const show = (numbers: readonly number[]): string => `[${numbers.map((n) => Number(n.toPrecision(6))).join(', ')}]`;
const short = (value: number): number => Number(value.toPrecision(4));

/** How far the farthest corner of two grids of one shape lies apart: in millimetres, and in voxels of the first. */
function cornersApart(expected: Grid, found: Grid): { mm: number; voxels: number } {
  const [a, b] = [gridCorners(expected), gridCorners(found)];
  // Voxels along each of the grid's own axes: half a slice is not half a pixel.
  const [depth, height, width] = expected.spacingMm;
  const steps = [width, height, depth];
  let [mm, voxels] = [0, 0];
  for (const [n, corner] of a.entries()) {
    const off = corner.map((value, row) => b[n]![row]! - value);
    mm = Math.max(mm, Math.hypot(...off));
    for (const [x, step] of steps.entries()) {
      const along = [0, 1, 2].reduce((sum, row) => sum + (off[row]! * expected.affine[4 * row + x]!) / step, 0);
      voxels = Math.max(voxels, Math.abs(along) / step);
    }
  }
  return { mm, voxels };
}

const sameShape = (a: Triple, b: Triple): boolean => a.every((n, axis) => n === b[axis]);

/** Of all 48 ways to turn a file, the one that brings it nearest to a grid of its shape; undefined where none has it. */
function nearest(
  found: Placement,
  expected: Grid,
): { orientation: Orientation; mm: number; voxels: number } | undefined {
  const { shape: fileShape, affine: fileAffine } = found;
  let best: { orientation: Orientation; mm: number; voxels: number } | undefined;
  for (const axes of ORDERS) {
    for (let mask = 0; mask < 8; mask++) {
      const flips = [0, 1, 2].map((n) => ((mask >> n) & 1) === 1) as [boolean, boolean, boolean];
      const orientation: Orientation = { axes, flips, fileShape, fileAffine };
      const grid = rasGrid(orientation);
      if (!sameShape(grid.shape, expected.shape)) continue;
      const apart = cornersApart(expected, grid);
      if (!best || apart.mm < best.mm) best = { orientation, ...apart };
    }
  }
  return best;
}

/** A volume that lies nowhere fits one of the same shape and spacing, voxel by voxel. */
function fitVoxelByVoxel(found: Placement, other: Placement): Orientation | undefined {
  const [a, b] = [columnLengths(found.affine), columnLengths(other.affine)];
  if (!sameShape(found.shape, other.shape)) return undefined;
  if (!a.every((mm, n) => Math.abs(mm - b[n]!) <= SPACING_SHARE * b[n]!)) return undefined;
  const { axes, flips } = orientationOf(other.shape, other.affine);
  return { axes, flips, fileShape: found.shape, fileAffine: found.affine };
}

function mismatch(found: Placement, expected: Grid, file: string, reference: string, hint: string): MaclError {
  const best = nearest(found, expected);
  const own = rasGrid(orientationOf(found.shape, found.affine));
  const difference =
    !best || !sameShape(own.shape, expected.shape)
      ? `shape (D, H, W) ${show(own.shape)}, expected ${show(expected.shape)}`
      : `its corners lie up to ${short(best.mm)} mm (${short(best.voxels)} voxels) elsewhere` +
        ` (spacing ${show(rasGrid(best.orientation).spacingMm)}, expected ${show(expected.spacingMm)})`;
  const words = `${file}: grid: differs from ${reference}: ${difference}${hint}`;
  return new MaclError('geometry', words, { file, field: 'grid', expected: expected.shape, found: own.shape });
}

/**
 * How the voxels of `file` come to lie on the grid of `reference`, turned to RAS. `header` reads what the reference's own
 * file says, and is asked only where its grid alone does not fit. Throws MaclError `geometry` naming both files.
 */
export async function fitGrid(
  found: Placement,
  file: string,
  expected: Grid,
  reference: string,
  header: () => Promise<Placement>,
): Promise<Fit> {
  const usable = (best: ReturnType<typeof nearest>, why: string): Fit | undefined => {
    if (!best) return undefined;
    const { orientation, mm, voxels } = best;
    if (mm <= SAME_MM) return why === '' ? { orientation } : { orientation, warning: `grid: ${why}` };
    // One voxel along an axis lets its corners say little of the spacing there.
    const spacing = rasGrid(orientation).spacingMm;
    if (spacing.some((step, axis) => Math.abs(step / expected.spacingMm[axis]! - 1) > NEAR_SPACING)) return undefined;
    if (voxels > NEAR_VOXELS) return undefined;
    const off = `its corners lie up to ${short(mm)} mm (${short(voxels)} voxels) off those of ${reference}, taken as one grid`;
    return { orientation, warning: `grid: ${off}${why === '' ? '' : `, and ${why}`}` };
  };
  const fit = usable(nearest(found, expected), '');
  if (fit) return fit;
  const other = await header();
  const nowhere = [
    ...(found.affineSource === 'pixdim' ? [file] : []),
    ...(other.affineSource === 'pixdim' ? [reference] : []),
  ];
  if (nowhere.length) {
    const words = `${nowhere.join(' and ')} ${nowhere.length > 1 ? 'have' : 'has'} no sform and no qform`;
    const orientation = fitVoxelByVoxel(found, other);
    if (orientation)
      return {
        orientation,
        warning: `grid: ${words}, so nothing says where ${nowhere.length > 1 ? 'they lie' : 'it lies'}: taken voxel by voxel with ${reference}, as shape and spacing are equal`,
      };
    const hint = `; ${words}: give the label the image's header, or both their place`;
    throw mismatch(found, expected, file, reference, hint);
  }
  if ((found.lengthUnit === 0) !== (other.lengthUnit === 0)) {
    const factor = millimetresPerUnit(other.lengthUnit) / millimetresPerUnit(found.lengthUnit);
    const affine = found.affine.map((value, n) => (n < 12 ? value * factor : value));
    const inUnit = nearest({ ...found, affine }, expected);
    const silent = found.lengthUnit === 0 ? file : reference;
    const same = inUnit && usable(inUnit, `${silent} does not say its unit, and has the other's numbers`);
    if (same) return same;
  }
  throw mismatch(found, expected, file, reference, '');
}
