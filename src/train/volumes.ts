/** Volumes in memory instead of files: any orientation in, the same out; metrics of typed arrays. */
import { isRas, orientationOf, rasGrid, turnToRas, fromRas } from '../data/orientation.js';
import type { Triple, Volume, VoxelArray } from '../data/volume.js';
import { MaclError } from '../errors.js';
import { summarise, type ClassLabel, type EvaluationDocument } from '../segment/evaluate.js';
import { caseMetrics, type CaseMetrics } from '../segment/metrics.js';

interface Abortable {
  readonly signal?: AbortSignal | undefined;
}

/** Turns a volume to RAS, segments it, and turns the labels back. */
export async function segmentAnyOrientation<T extends VoxelArray>(
  volume: Volume,
  { signal }: Abortable,
  segment: (ras: Volume) => Promise<T>,
): Promise<T> {
  const { grid, channels, voxels } = volume;
  const [d, h, w] = grid.shape;
  if (voxels.length !== channels * d * h * w)
    throw new MaclError(
      'geometry',
      `volume: ${channels} × ${d}×${h}×${w} voxels need ${channels * d * h * w} values, found ${voxels.length}`,
      {
        field: 'voxels',
        expected: channels * d * h * w,
        found: voxels.length,
      },
    );
  if (grid.affine.length !== 16 || !grid.affine.every(Number.isFinite))
    throw new MaclError('geometry', 'volume: affine: expected 16 finite numbers', { field: 'affine' });
  const orientation = orientationOf([w, h, d], grid.affine);
  if (isRas(orientation)) return segment(volume);
  const turned = await turnToRas(voxels, orientation, channels, signal);
  const labels = await segment({ grid: rasGrid(orientation), channels, voxels: turned });
  return fromRas(labels, orientation, 1, signal);
}

/** A prediction and its reference on one grid: label values, [D, H, W]. */
export interface VolumePair {
  readonly id: string;
  readonly pred: ArrayLike<number>;
  readonly ref: ArrayLike<number>;
  readonly shape: Triple;
  readonly spacingMm: Triple;
}

export interface EvaluateVolumesOptions extends Abortable {
  readonly cases: readonly VolumePair[];
  /** The classes to report, without the background. */
  readonly classes: readonly ClassLabel[];
}

/** The document of `macl evaluate --json` for volumes in memory. */
export async function evaluateVolumes(options: EvaluateVolumesOptions): Promise<EvaluationDocument> {
  const abort = options.signal ? { signal: options.signal } : {};
  const values = options.classes.map((c) => c.value);
  const results = new Map<string, CaseMetrics>();
  for (const { id, pred, ref, shape, spacingMm } of options.cases) {
    const voxels = shape[0] * shape[1] * shape[2];
    if (pred.length !== voxels || ref.length !== voxels)
      throw new MaclError(
        'geometry',
        `${id}: ${shape.join('×')} voxels, found ${pred.length} predicted and ${ref.length} reference values`,
        { field: id },
      );
    if (results.has(id)) throw new MaclError('config', `case ${id} is there twice`, { field: id });
    results.set(id, await caseMetrics(asVoxels(pred), asVoxels(ref), shape, spacingMm, values, abort));
  }
  return summarise(results, [...options.classes], abort);
}

const asVoxels = (v: ArrayLike<number>): VoxelArray =>
  ArrayBuffer.isView(v) ? (v as unknown as VoxelArray) : Float64Array.from(v);
