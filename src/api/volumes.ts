/** What the library is built of and others can use: NIfTI files, orientation, metrics, configurations. Options are checked. */
import { resolveConfig as resolve, type ResolveOptions } from '../config/resolve.js';
import type { ResolvedConfig } from '../settings/types.js';
import * as nifti from '../data/nifti/index.js';
import type { NiftiImage, ReadNiftiOptions, WriteNiftiOptions, Orientation } from '../data/nifti/index.js';
import type { Triple, Volume, VoxelArray } from '../volume.js';
import { checkOptions, type OptionKinds } from '../options.js';
import { BOOTSTRAP_OPTIONS } from '../segment/bootstrap.js';
import * as evaluation from '../segment/evaluate.js';
import type { CasesMetrics, ClassLabel, EvaluationDocument, SummaryOptions } from '../segment/evaluate.js';
import * as metrics from '../segment/metrics.js';
import type { CaseMetrics, MetricsOptions } from '../segment/metrics.js';

const READ: OptionKinds<ReadNiftiOptions> = { signal: 'signal', nonFinite: ['refuse', 'zero'], maxVoxelBytes: 'count' };
const WRITE: OptionKinds<WriteNiftiOptions> = {
  like: 'object',
  shape: 'any',
  affine: 'any',
  voxels: 'any',
  channels: 'count',
  datatype: 'text',
  seal: 'text',
  signal: 'signal',
};
const ABORT: OptionKinds<{ signal?: AbortSignal }> = { signal: 'signal' };
const SUMMARY: OptionKinds<SummaryOptions> = { ...BOOTSTRAP_OPTIONS, against: 'any' };
const RESOLVE: OptionKinds<ResolveOptions> = { source: 'text' };

/** Reads a volume. Throws MaclError `file` with file and field, `memory`, or `aborted`. */
export async function readNifti(file: string, options: ReadNiftiOptions = {}): Promise<NiftiImage> {
  checkOptions('readNifti', options, READ);
  return nifti.readNifti(file, options);
}

/**
 * Writes `file` (.nii, or gzip where the name ends in .gz) whole or not at all. Voxels must stay as they are until it settles.
 * Throws MaclError.
 */
export async function writeNifti(file: string, options: WriteNiftiOptions): Promise<void> {
  checkOptions('writeNifti', options, WRITE, ['voxels']);
  return nifti.writeNifti(file, options);
}

/** Scales, and turns to the nearest RAS. `orientation` takes a result of the same grid back: `fromRas`. */
export async function toRas(
  image: NiftiImage,
  options: { signal?: AbortSignal } = {},
): Promise<{ volume: Volume; orientation: Orientation }> {
  checkOptions('toRas', options, ABORT);
  return nifti.toRas(image, options);
}

/** RAS order → file order, channel by channel: undoes `toRas`. */
export async function fromRas<T extends VoxelArray>(
  voxels: T,
  orientation: Orientation,
  channels = 1,
  signal?: AbortSignal,
): Promise<T> {
  checkOptions('fromRas', signal === undefined ? {} : { signal }, ABORT);
  return nifti.fromRas(voxels, orientation, channels, signal);
}

/**
 * The metrics of one case, for each label value in `classes`: `pred` and `ref` hold label values, [D, H, W], and must stay as
 * they are until it settles.
 */
export async function caseMetrics(
  pred: VoxelArray,
  ref: VoxelArray,
  shape: Triple,
  spacingMm: Triple,
  classes: readonly number[],
  options: MetricsOptions = {},
): Promise<CaseMetrics> {
  checkOptions('caseMetrics', options, ABORT);
  return metrics.caseMetrics(pred, ref, shape, spacingMm, classes, options);
}

/** The whole document of `macl evaluate --json` from the metrics of cases. */
export async function summarise(
  cases: CasesMetrics,
  classes: readonly ClassLabel[],
  options: SummaryOptions = {},
): Promise<EvaluationDocument> {
  checkOptions('summarise', options, SUMMARY);
  return evaluation.summarise(cases, classes, options);
}

/** A configuration with a value everywhere. @throws MaclError `config` with path, expected and found */
export function resolveConfig(value: unknown, options: ResolveOptions = {}): ResolvedConfig {
  checkOptions('resolveConfig', options, RESOLVE);
  return resolve(value, options);
}
