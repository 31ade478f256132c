/** Volumes in memory instead of files: any orientation in, the same out; metrics of typed arrays. */
import { affineFault, columnLengths, isRas, orientationOf, rasGrid, turnToRas, fromRas } from '../data/orientation.js';
import { Breather } from '../breathe.js';
import type { Grid, Triple, Volume, VoxelArray } from '../volume.js';
import { MaclError } from '../errors.js';
import { checkOptions, showValue, type OptionKinds } from '../options.js';
import { arrayKind, copyOf, typedArrayKind } from '../realm.js';
import { summarise, type ClassLabel, type EvaluationDocument } from '../segment/evaluate.js';
import { checkValues, valuesIn } from '../segment/label-values.js';
import { caseMetrics, checkShape, type CaseMetrics } from '../segment/metrics.js';

interface Abortable {
  readonly signal?: AbortSignal | undefined;
}

/** Spacing and the affine's columns may differ by this share: both are often float32. */
const SPACING_TOLERANCE = 1e-3;

function geometryError(field: string, expected: string, found: unknown): MaclError {
  return new MaclError('geometry', `volume: ${field}: expected ${expected}, found ${showValue(found)}`, {
    field,
    expected,
    found,
  });
}

const numbersOf = (value: unknown): readonly unknown[] | undefined =>
  Array.isArray(value) || ArrayBuffer.isView(value) ? Array.from(value as ArrayLike<unknown>) : undefined;

/** For callers whom no compiler checks: a grid that is no grid would give a result that is none. */
function checkVolume(volume: Partial<Volume> | null | undefined): void {
  if (typeof volume !== 'object' || volume === null)
    throw geometryError('volume', 'an object with grid, channels and voxels', volume);
  const { grid, channels, voxels } = volume;
  checkGrid(grid);
  if (!(Number.isSafeInteger(channels) && channels! > 0))
    throw geometryError('channels', 'a positive whole number', channels);
  if (!arrayKind(voxels)) throw geometryError('voxels', 'a typed array of numbers', typedArrayKind(voxels) ?? voxels);
}

function checkGrid(grid: Partial<Grid> | null | undefined): void {
  if (typeof grid !== 'object' || grid === null)
    throw geometryError('grid', 'an object with shape, spacingMm and affine', grid);
  const shape = numbersOf(grid.shape);
  if (shape?.length !== 3 || !shape.every((n) => Number.isSafeInteger(n) && (n as number) > 0))
    throw geometryError('shape', 'three positive whole numbers', shape ?? grid.shape);
  const affine = numbersOf(grid.affine);
  if (affine?.length !== 16 || !affine.every(Number.isFinite))
    throw geometryError('affine', '16 finite numbers', affine ?? grid.affine);
  const fault = affineFault(affine as number[]);
  if (fault !== undefined) throw geometryError('affine', `one that can be inverted (${fault})`, affine);
  const spacing = numbersOf(grid.spacingMm) as readonly number[] | undefined;
  if (spacing?.length !== 3 || !spacing.every((mm) => Number.isFinite(mm) && mm > 0))
    throw geometryError('spacingMm', 'three positive numbers', spacing ?? grid.spacingMm);
  const columns = columnLengths(affine as number[]).reverse();
  if (columns.some((mm, axis) => Math.abs(mm - spacing[axis]!) > SPACING_TOLERANCE * mm))
    throw geometryError('spacingMm', `${columns.join(', ')} (D, H, W), the lengths of the affine's columns`, spacing);
}

/** The same volume in memory of its own: its owner may change or free the array while the call goes on. */
function ownVolume({ grid, channels, voxels }: Volume, transfer: boolean): Volume {
  const [shape, spacingMm] = [grid.shape, grid.spacingMm].map((three) => Array.from(three)) as [number[], number[]];
  return {
    grid: {
      shape: shape as unknown as Triple,
      spacingMm: spacingMm as unknown as Triple,
      affine: Float64Array.from(grid.affine),
    },
    channels,
    voxels: transfer ? takeOver(voxels) : copyOf(voxels),
  };
}

function takeOver(voxels: VoxelArray): VoxelArray {
  try {
    return structuredClone(voxels, { transfer: [voxels.buffer as ArrayBuffer] });
  } catch (cause) {
    const words = 'volume: voxels: transfer: expected an array that has a buffer of its own, not shared, not pooled';
    throw new MaclError('geometry', words, { field: 'voxels' }, { cause });
  }
}

/** Turns a volume to RAS, segments it, and turns the labels back. The volume is the caller's again at once. */
export async function segmentAnyOrientation<T extends VoxelArray>(
  volume: Volume,
  { signal, transfer }: Abortable & { readonly transfer?: boolean | undefined },
  segment: (ras: Volume) => Promise<T>,
): Promise<T> {
  checkVolume(volume);
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
  const own = ownVolume(volume, transfer ?? false);
  const orientation = orientationOf([w, h, d], own.grid.affine);
  if (isRas(orientation)) return segment(own);
  const turned = await turnToRas(own.voxels, orientation, channels, signal);
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
  /** The background's value. Default 0. */
  readonly background?: number;
}

const EVALUATE_OPTIONS: OptionKinds<EvaluateVolumesOptions> = {
  cases: 'list',
  classes: 'list',
  background: 'number',
  signal: 'signal',
};
const PAIR: OptionKinds<VolumePair> = { id: 'text', pred: 'any', ref: 'any', shape: 'any', spacingMm: 'any' };

/**
 * The document of `macl evaluate --json` for volumes in memory. Rejects with MaclError `label` where one holds a value
 * that is neither a class nor the background, as for files. Arrays must stay as they are until it settles.
 */
export async function evaluateVolumes(options: EvaluateVolumesOptions): Promise<EvaluationDocument> {
  checkOptions('evaluateVolumes', options, EVALUATE_OPTIONS, ['cases', 'classes']);
  const abort = options.signal ? { signal: options.signal } : {};
  const values = options.classes.map((c) => c.value);
  const known = new Set([options.background ?? 0, ...values]);
  const breath = new Breather(options.signal);
  const results = new Map<string, CaseMetrics>();
  for (const [n, pair] of options.cases.entries()) {
    checkOptions(`evaluateVolumes: cases[${n}]`, pair, PAIR, ['id', 'pred', 'ref', 'shape', 'spacingMm']);
    const { id, pred, ref, shape, spacingMm } = pair;
    checkShape(shape, `${id}: `);
    const voxels = shape[0] * shape[1] * shape[2];
    if (pred.length !== voxels || ref.length !== voxels)
      throw new MaclError(
        'geometry',
        `${id}: ${shape.join('×')} voxels, found ${pred.length} predicted and ${ref.length} reference values`,
        { field: id },
      );
    if (results.has(id)) throw new MaclError('config', `case ${id} is there twice`, { field: id });
    for (const [field, voxelsOf] of [
      ['pred', pred],
      ['ref', ref],
    ] as const)
      checkValues(await valuesIn(voxelsOf, `${id}: ${field}`, breath, { field }), known, `${id}: ${field}`, { field });
    results.set(id, await caseMetrics(asVoxels(pred), asVoxels(ref), shape, spacingMm, values, abort));
  }
  return summarise(results, [...options.classes], abort);
}

const asVoxels = (v: ArrayLike<number>): VoxelArray => (arrayKind(v) ? (v as VoxelArray) : Float64Array.from(v));
