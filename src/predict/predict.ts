/** `macl predict`: files or a folder in, label volumes on their own grids out. */
import type { Backend } from '../backend/types.js';
import type { FinetuneConfig } from '../settings/types.js';
import { resolveCases } from '../data/lists.js';
import { badCasesError } from '../data/prepare/dataset.js';
import { writeNifti } from '../data/nifti/index.js';
import { MaclError } from '../errors.js';
import { checkPrecision } from '../methods/precision.js';
import { ARITHMETICS, DEFAULT_ARITHMETIC, type Arithmetic } from '../arithmetic.js';
import { chosenPrecision, PRECISION_CHOICES, type PrecisionChoice } from '../precision.js';
import type { OptionKinds } from '../options.js';
import { mirrorAxesOf, type LoadedModel } from '../model/description.js';
import { listCases, type PredictCase } from './cases.js';
import { planOutputs, sealOf, type PlannedCase } from './outputs.js';
import { Predictor } from './predictor.js';
import { segmentSources } from './segment-sources.js';

export interface PredictFilesOptions {
  /** A volume, or a folder of volumes. */
  readonly input: string;
  /** Folder for the results, or (`.nii`, `.nii.gz`) the file for the result of a single case. */
  readonly out: string;
  /** Restricts the cases: FILE.json#KEY, a text file, a comma list, or a fraction. */
  readonly cases?: string | undefined;
  readonly mirror?: boolean | undefined;
  /** Keep the largest connected part of each class. */
  readonly largestComponent?: boolean | undefined;
  /** Write probabilities beside the labels. */
  readonly probabilities?: boolean | undefined;
  /** Voxels that are NaN or infinite. Default: as the model says. */
  readonly nonFinite?: 'refuse' | 'zero' | undefined;
  /** Leave out cases whose results are there, from the same models and settings. */
  readonly continue?: boolean | undefined;
  /** Replace files that predict did not write. */
  readonly overwrite?: boolean | undefined;
  /** What activations are held in, whatever the model was trained in. Default: fp32. */
  readonly precision?: PrecisionChoice | undefined;
  /** How convolutions are computed, whatever the training's were. Default: direct. */
  readonly arithmetic?: Arithmetic | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onCase?:
    ((event: { id: string; index: number; total: number; done: number; tiles: number }) => void) | undefined;
  readonly onNote?: ((message: string) => void) | undefined;
}

export const PREDICT_FILES_OPTIONS: OptionKinds<PredictFilesOptions> = {
  input: 'text',
  out: 'text',
  cases: 'text',
  mirror: 'flag',
  largestComponent: 'flag',
  probabilities: 'flag',
  nonFinite: ['refuse', 'zero'],
  continue: 'flag',
  overwrite: 'flag',
  precision: PRECISION_CHOICES,
  arithmetic: ARITHMETICS,
  signal: 'signal',
  onCase: 'function',
  onNote: 'function',
};

/** A result. */
export interface PredictedFile {
  readonly id: string;
  readonly file: string;
  /** It was there already (`continue`). */
  readonly kept?: true;
}

/**
 * Segments every case and writes `OUT/<name>`. A case that cannot be read or segmented does not stop the others: it is told
 * to `onNote`, and all of them are in the error at the end. @returns the results' files
 */
export async function predictFiles(
  model: LoadedModel<FinetuneConfig> | readonly LoadedModel<FinetuneConfig>[],
  backend: Backend,
  options: PredictFilesOptions,
): Promise<PredictedFile[]> {
  const models = [model].flat() as readonly LoadedModel<FinetuneConfig>[];
  const { mirror = false, largestComponent = false, probabilities = false, signal } = options;
  const { arithmetic = DEFAULT_ARITHMETIC } = options;
  const precision = chosenPrecision(options.precision ?? 'fp32', backend.info);
  const { channelNames, config } = models[0] as LoadedModel<FinetuneConfig>;
  const nonFinite = options.nonFinite ?? config.data.nonFinite;
  if (mirror) for (const one of models) mirrorAxesOf(one);
  const found = await listCases(options.input, channelNames.length, options.onNote ?? (() => undefined));
  const cases = options.cases === undefined ? found : await chosenCases(found, options.cases);
  checkPrecision(precision, backend.info);
  const settings = { mirror, largestComponent, nonFinite, precision, arithmetic };
  const seal = await sealOf(models, settings, signal);
  const { todo, kept } = await planOutputs(cases, {
    out: options.out,
    probabilities,
    overwrite: options.overwrite ?? false,
    continue: options.continue ?? false,
    seal,
    signal,
  });
  if (kept.length > 0) options.onNote?.(`${kept.length} of ${cases.length} results are there already and stay`);
  const written: PredictedFile[] = kept.map(({ id, labels: file }) => ({ id, file, kept: true }));
  if (todo.length === 0) return written;
  const predictor = await Predictor.open(models, backend, { precision, arithmetic });
  const bad: { id: string; error: MaclError }[] = [];
  try {
    for (const [index, item] of todo.entries()) {
      try {
        if (item.problem) throw item.problem;
        await predictCase(predictor, item, { ...options, nonFinite, seal }, (done, tiles) =>
          options.onCase?.({ id: item.id, index, total: todo.length, done, tiles }),
        );
        written.push({ id: item.id, file: item.labels });
      } catch (error) {
        // What is wrong with one input says nothing of the next; a full disk does.
        if (!(error instanceof MaclError) || !item.files.includes(error.details.file ?? '')) throw error;
        if (todo.length === 1) throw error;
        bad.push({ id: item.id, error });
        options.onNote?.(`left out ${item.id}: ${error.message}`);
      }
    }
  } finally {
    await predictor.close();
  }
  if (bad.length > 0)
    throw badCasesError(options.input, bad, todo.length, 'could not be segmented, the others are written');
  const place = new Map(cases.map(({ id }, n) => [id, n]));
  return written.sort((a, b) => place.get(a.id)! - place.get(b.id)!);
}

async function chosenCases(cases: readonly PredictCase[], list: string): Promise<PredictCase[]> {
  const available = cases.map(({ id }) => id);
  const chosen = new Set(await resolveCases(list, { available, seed: 0, flag: '--cases' }));
  return cases.filter(({ id }) => chosen.has(id));
}

interface CaseOptions extends PredictFilesOptions {
  readonly nonFinite: 'refuse' | 'zero';
  readonly seal: string;
}

async function predictCase(
  predictor: Predictor,
  item: PlannedCase,
  options: CaseOptions,
  onProgress: (done: number, tiles: number) => void,
): Promise<void> {
  const { signal, seal } = options;
  const abort = signal ? { signal } : {};
  const { like, voxels, probabilities } = await segmentSources(predictor, item.files, {
    nonFinite: options.nonFinite,
    probabilities: item.probabilities !== undefined,
    name: item.files[0] as string,
    mirror: options.mirror,
    largestComponent: options.largestComponent,
    signal,
    onWarning: options.onNote,
    onProgress,
  });
  await writeNifti(item.labels, { like, voxels, seal, ...abort });
  if (!probabilities || item.probabilities === undefined) return;
  const channels = predictor.classes.length;
  await writeNifti(item.probabilities, { like, voxels: probabilities, channels, seal, ...abort });
}
