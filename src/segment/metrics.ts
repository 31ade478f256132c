/**
 * How good one prediction is: Dice and Jaccard from voxel counts, and surface distances in mm, per class. Means over
 * classes and cases, intervals and tables are `evaluate.ts`; reading files is not here.
 *
 * Empty masks: with both empty every value is NaN (there is nothing to judge); with one empty Dice and Jaccard are 0
 * and the distances Infinity. `empty` says which, so that nothing is mistaken for a measured value.
 */
import { Breather } from '../breathe.js';
import { type Triple, type VoxelArray } from '../volume.js';
import { MaclError } from '../errors.js';
import { showValue } from '../options.js';
import { arrayKind } from '../realm.js';
import { type Box } from './distance.js';
import { mean, percentile, surfaceDistancesMm, surfaceOf } from './metrics-surface.js';

export const METRIC_NAMES = [
  'dice',
  'jaccard',
  'hd95_monai',
  'hd95_medpy',
  'asd',
  'assd_pooled',
  'assd_mean',
  /** Deprecated: equal to `assd_mean`. */
  'assd',
] as const;
/** Those that people are shown. */
export const SHOWN_METRICS = METRIC_NAMES.filter((name) => name !== 'assd');
export type MetricName = (typeof METRIC_NAMES)[number];

/** Which of the two masks has no voxel. */
export type EmptyMask = 'both' | 'pred' | 'ref';

export interface ClassMetrics extends Readonly<Record<MetricName, number>> {
  readonly empty?: EmptyMask;
}

/** By the label's value. */
export type CaseMetrics = ReadonlyMap<number, ClassMetrics>;

export interface MetricsOptions {
  signal?: AbortSignal;
}

/** Counts of one class, and the box that holds both masks. */
interface ClassCount {
  pred: number;
  ref: number;
  both: number;
  low: [number, number, number];
  high: [number, number, number];
}

function newCount(): ClassCount {
  return { pred: 0, ref: 0, both: 0, low: [Infinity, Infinity, Infinity], high: [-1, -1, -1] };
}

function grow(count: ClassCount, d: number, h: number, w: number): void {
  const { low, high } = count;
  if (d < low[0]) low[0] = d;
  if (d > high[0]) high[0] = d;
  if (h < low[1]) low[1] = h;
  if (h > high[1]) high[1] = h;
  if (w < low[2]) low[2] = w;
  if (w > high[2]) high[2] = w;
}

/**
 * Voxels of each class in prediction, reference and both, and the box of either.
 * @param ignore voxels that are this in the reference count nowhere
 */
export async function countClasses(
  pred: VoxelArray,
  ref: VoxelArray,
  shape: Triple,
  classes: readonly number[],
  breath: Breather,
  ignore?: number,
): Promise<Map<number, ClassCount>> {
  const counts = new Map(classes.map((value) => [value, newCount()]));
  const [depth, height, width] = shape;
  let i = 0;
  for (let d = 0; d < depth; d++) {
    for (let h = 0; h < height; h++) {
      // Runs of equal labels are long: the map is asked only where one of the two changes.
      let p = NaN;
      let r = NaN;
      let predCount: ClassCount | undefined;
      let refCount: ClassCount | undefined;
      for (let w = 0; w < width; w++, i++) {
        if (pred[i] !== p) predCount = counts.get((p = pred[i]!));
        if (ref[i] !== r) refCount = counts.get((r = ref[i]!));
        if (r === ignore) continue;
        if (predCount) {
          predCount.pred++;
          grow(predCount, d, h, w);
          if (predCount === refCount) predCount.both++;
        }
        if (refCount) {
          refCount.ref++;
          if (refCount !== predCount) grow(refCount, d, h, w);
        }
      }
      if (breath.due()) await breath.breathe();
    }
  }
  return counts;
}

/** 1 where the label is `value`, inside the box. */
async function maskInBox(
  labels: VoxelArray,
  shape: Triple,
  box: Box,
  value: number,
  breath: Breather,
): Promise<Uint8Array> {
  const [depth, rows, columns] = box.size;
  const out = new Uint8Array(depth * rows * columns);
  let at = 0;
  for (let d = 0; d < depth; d++) {
    for (let h = 0; h < rows; h++) {
      const from = ((box.start[0] + d) * shape[1] + box.start[1] + h) * shape[2] + box.start[2];
      for (let w = 0; w < columns; w++, at++) if (labels[from + w] === value) out[at] = 1;
    }
    if (breath.due()) await breath.breathe();
  }
  return out;
}

/** 2|P∩R| / (|P| + |R|); NaN where both masks are empty. */
export function diceOf({ pred, ref, both }: Pick<ClassCount, 'pred' | 'ref' | 'both'>): number {
  return (2 * both) / (pred + ref);
}

function emptyMetrics(empty: EmptyMask): ClassMetrics {
  const overlap = empty === 'both' ? NaN : 0;
  const distance = empty === 'both' ? NaN : Infinity;
  return {
    dice: overlap,
    jaccard: overlap,
    hd95_monai: distance,
    hd95_medpy: distance,
    asd: distance,
    assd_pooled: distance,
    assd_mean: distance,
    assd: distance,
    empty,
  };
}

async function classMetrics(
  pred: VoxelArray,
  ref: VoxelArray,
  shape: Triple,
  spacingMm: Triple,
  value: number,
  count: ClassCount,
  breath: Breather,
): Promise<ClassMetrics> {
  if (!count.pred || !count.ref) return emptyMetrics(count.pred ? 'ref' : count.ref ? 'pred' : 'both');
  const { low, high } = count;
  // Both surfaces lie in this box, and beyond it there is only background, as beyond the volume.
  const box: Box = { start: low, size: [high[0] - low[0] + 1, high[1] - low[1] + 1, high[2] - low[2] + 1] };
  const axes: [boolean, boolean, boolean] = [shape[0] > 1, shape[1] > 1, shape[2] > 1];
  const predSurface = await surfaceOf(await maskInBox(pred, shape, box, value, breath), box.size, axes, breath);
  const refSurface = await surfaceOf(await maskInBox(ref, shape, box, value, breath), box.size, axes, breath);
  const toRef = await surfaceDistancesMm(predSurface, refSurface, box.size, spacingMm, breath);
  const toPred = await surfaceDistancesMm(refSurface, predSurface, box.size, spacingMm, breath);
  const pooled = new Float64Array(toRef.length + toPred.length);
  pooled.set(toRef);
  pooled.set(toPred, toRef.length);
  const asd = mean(toRef);
  const assdMean = (asd + mean(toPred)) / 2;
  const assdPooled = mean(pooled);
  return {
    dice: diceOf(count),
    jaccard: count.both / (count.pred + count.ref - count.both),
    hd95_monai: Math.max(await percentile(toRef, 95, breath), await percentile(toPred, 95, breath)),
    hd95_medpy: await percentile(pooled, 95, breath),
    asd,
    assd_pooled: assdPooled,
    assd_mean: assdMean,
    assd: assdMean,
  };
}

/** @throws MaclError `geometry` */
export function checkShape(shape: unknown, what = ''): asserts shape is Triple {
  const sizes: unknown[] = Array.isArray(shape) || arrayKind(shape) ? Array.from(shape as ArrayLike<unknown>) : [];
  if (sizes.length === 3 && sizes.every((n) => Number.isSafeInteger(n) && (n as number) > 0)) return;
  const words = `${what}shape: expected three positive whole numbers (D, H, W), found ${showValue(shape)}`;
  throw new MaclError('geometry', words, { field: 'shape', found: shape });
}

function check(pred: VoxelArray, ref: VoxelArray, shape: Triple, spacingMm: Triple): void {
  checkShape(shape);
  for (const [field, voxels] of Object.entries({ pred, ref })) {
    if (arrayKind(voxels)) continue;
    const words = `${field}: expected a typed array of numbers, found ${showValue(voxels)}`;
    throw new MaclError('geometry', words, { field });
  }
  const expected = shape[0] * shape[1] * shape[2];
  for (const [field, found] of [
    ['pred', pred.length],
    ['ref', ref.length],
  ] as const) {
    if (found === expected) continue;
    const words = `${field}: expected ${expected} voxels for [${shape.join(', ')}], found ${found}`;
    throw new MaclError('geometry', words, { field, expected, found });
  }
  if (!(spacingMm?.length === 3 && [...spacingMm].every((mm) => Number.isFinite(mm) && mm > 0))) {
    const words = `spacingMm: expected three positive numbers, found ${showValue(spacingMm)}`;
    throw new MaclError('geometry', words, { field: 'spacingMm', found: spacingMm });
  }
}

/**
 * The metrics of one case, for each label value in `classes` (the background is left out by not naming it). `pred` and
 * `ref` hold label values, [D, H, W]. A label that is not in `classes` counts as background here; whoever reads files
 * refuses it first. Throws MaclError `geometry` or `aborted`.
 *
 * - `dice` = 2|P∩R| / (|P|+|R|), `jaccard` = |P∩R| / |P∪R|
 * - `hd95_monai`: the larger of the two directed 95th percentiles of surface distances
 * - `hd95_medpy`: the 95th percentile of both directed sets together
 * - `asd`: mean distance from the prediction's surface to the reference's
 * - `assd_pooled`: the mean of both directed sets together (medpy since 0.5, MONAI); `assd_mean`: the mean of the two directed
 *   means; `assd`: deprecated, `assd_mean`
 */
export async function caseMetrics(
  pred: VoxelArray,
  ref: VoxelArray,
  shape: Triple,
  spacingMm: Triple,
  classes: readonly number[],
  options: MetricsOptions = {},
): Promise<CaseMetrics> {
  check(pred, ref, shape, spacingMm);
  const breath = new Breather(options.signal);
  const counts = await countClasses(pred, ref, shape, classes, breath);
  const out = new Map<number, ClassMetrics>();
  for (const [value, count] of counts) {
    out.set(value, await classMetrics(pred, ref, shape, spacingMm, value, count, breath));
  }
  return out;
}
