/**
 * What a volume becomes at the plan's spacing, held against what can be, before any memory is taken: an extent below one
 * voxel or a thousand times the voxels is a spacing or unit that cannot be, not a volume. Numbers only.
 */
import { MaclError, memoryError } from '../../errors.js';
import { resampledShape } from './resample.js';
import { type Triple } from '../../volume.js';

/** Resampled to more than this many times its voxels a volume is refused; thick slices made thin stay below 64. */
const MOST_TIMES = 1000;
const MANY_TIMES = 64;

const by = (sizes: readonly number[]): string => sizes.map((n) => Number(n.toPrecision(4))).join('×');
const product = (shape: Triple): number => shape[0] * shape[1] * shape[2];

/** A volume before and after; `bytes`, of each voxel afterwards and of what is held beside it, are what has to be free. */
export interface PreparedSize {
  shape: Triple;
  spacingMm: Triple;
  targetMm: Triple | null;
  channels: number;
  bytes: { each: number; beside: number };
}

/** @param free bytes that may still be taken @returns a warning. Throws MaclError `geometry` for a spacing that cannot be, `memory` with needed and free. */
export function checkPreparedSize(file: string, size: PreparedSize, free: number): string | undefined {
  const { shape, spacingMm, targetMm, channels, bytes } = size;
  const outShape = targetMm ? resampledShape(shape, spacingMm, targetMm) : shape;
  const needed = product(outShape) * channels * bytes.each + bytes.beside;
  const becomes = targetMm ? `at ${by(targetMm)} mm it becomes ${by(outShape)} voxels` : `${by(outShape)} voxels`;
  const wrong = (why: string): MaclError => {
    const words = `${file}: spacing: voxels of ${by(spacingMm)} mm: ${why}`;
    return new MaclError('geometry', words, { file, field: 'spacing', expected: targetMm, found: spacingMm });
  };
  if (!targetMm) {
    if (needed > free) throw memoryError(`${file}: ${becomes}`, needed, free, { file });
    return undefined;
  }
  if (shape.every((n, axis) => n * spacingMm[axis]! < targetMm[axis]!))
    throw wrong(
      `the whole volume is ${by(shape.map((n, axis) => n * spacingMm[axis]!))} mm, smaller than one voxel of ` +
        `${by(targetMm)} mm that the network sees: its unit or spacing cannot be right`,
    );
  if (needed > free) throw memoryError(`${file}: ${becomes}`, needed, free, { file });
  const times = product(outShape) / product(shape);
  const words = `${becomes}, ${Math.round(times)} times its own`;
  if (times > MOST_TIMES)
    throw wrong(`${words} (${needed} bytes needed, ${free} free): its unit or spacing cannot be right`);
  return times > MANY_TIMES ? `${file}: spacing: voxels of ${by(spacingMm)} mm: ${words}` : undefined;
}
