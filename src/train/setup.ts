/**
 * What every training command does before its first step: open the dataset, choose cases, look at them, plan, prepare.
 * Bad cases are all named before anything is thrown.
 */
import { planFinetune, planPretrain, type Fingerprint as PlanFingerprint, type Plan } from '../config/index.js';
import type { FinetuneConfig, FinetuneConfigInput, PretrainConfig, PretrainConfigInput } from '../settings/types.js';
import { openDataset, type Dataset } from '../data/dataset.js';
import { fingerprint, plannerFingerprint, type Fingerprint } from '../data/fingerprint.js';
import { defaultCacheDir } from '../data/cache.js';
import { imageFindings } from '../data/findings.js';
import { badCasesError, prepareDataset, type PreparedDataset } from '../data/prepare/dataset.js';
import { MaclError } from '../errors.js';
import type { OptionKinds } from '../options.js';
import type { OnEvent } from './events.js';
import type { LoadedModel, ModelDescription } from '../model/description.js';

export interface DataOptions {
  /** Folder of a raw dataset, or a table of cases (.csv, .tsv). */
  readonly data: string;
  /** Patterns of image files within the folder; several are channels. */
  readonly imageGlob?: string | readonly string[] | undefined;
  /** Pattern of label files within the folder. */
  readonly labelGlob?: string | undefined;
  /** Restricts the cases: FILE.json#KEY, a text file, a comma list, or a fraction. */
  readonly cases?: string | undefined;
  readonly cacheDir?: string | undefined;
  readonly skipBad?: boolean | undefined;
  readonly followLinks?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: OnEvent | undefined;
}

export const DATA_OPTIONS: OptionKinds<DataOptions> = {
  data: 'text',
  imageGlob: 'text or list',
  labelGlob: 'text',
  cases: 'text',
  cacheDir: 'text',
  skipBad: 'flag',
  followLinks: 'flag',
  signal: 'signal',
  onEvent: 'function',
};

export async function openData(options: DataOptions): Promise<Dataset> {
  const dataset = await openDataset(options.data, {
    ...(options.followLinks ? { followLinks: true } : {}),
    ...(options.imageGlob === undefined ? {} : { imageGlobs: [options.imageGlob].flat() }),
    ...(options.labelGlob === undefined ? {} : { labelGlob: options.labelGlob }),
    ...(options.signal ? { signal: options.signal } : {}),
  });
  for (const message of dataset.notes) options.onEvent?.({ kind: 'note', message });
  return dataset;
}

/** Measures the cases that a plan is made from. Throws naming every bad file, unless `skipBad`. */
export async function inspectCases(
  dataset: Dataset,
  ids: readonly string[],
  want: { labels: boolean | 'present'; nonFinite: 'refuse' | 'zero'; sliceAxis: 'D' | 'H' | 'W' },
  options: DataOptions,
): Promise<{ found: Fingerprint; plan: PlanFingerprint }> {
  const { onEvent } = options;
  const found = await fingerprint(dataset, {
    caseIds: ids,
    ...want,
    cacheDir: options.cacheDir ?? defaultCacheDir(),
    ...(options.signal ? { signal: options.signal } : {}),
    onProgress: (done, total, id) => onEvent?.({ kind: 'cases', what: 'inspect', done, total, id }),
  });
  for (const message of found.warnings) onEvent?.({ kind: 'warning', message });
  const { bad } = found;
  if (bad.length > 0 && (!options.skipBad || found.cases.length === 0))
    throw badCasesError(dataset.root, bad, ids.length);
  warnLeftOut(bad, ids.length, onEvent);
  for (const message of imageFindings(found)) onEvent?.({ kind: 'warning', message });
  return { found, plan: plannerFingerprint(found, dataset) };
}

export function pretrainPlan(found: PlanFingerprint, input: PretrainConfigInput): Plan<PretrainConfig> {
  return planPretrain(found, input);
}

export function finetunePlan(
  found: PlanFingerprint,
  input: FinetuneConfigInput,
  init: LoadedModel | null,
): Plan<FinetuneConfig> {
  return planFinetune(found, input, init ? { init: init.config } : {});
}

/** Prepares (or finds in the cache) the cases of a run, with the model's own normalisation. */
export async function prepareCases(
  dataset: Dataset,
  ids: readonly string[],
  model: ModelDescription,
  labels: 'required' | 'none',
  options: DataOptions,
): Promise<PreparedDataset> {
  const { data } = model.config;
  const prepared = await prepareDataset({
    dataset,
    caseIds: ids,
    settings: {
      spacingMm: data.spacingMm,
      normalize: dataNormalization(model, dataset.channels),
      nonFinite: data.nonFinite,
      sliceAxis: data.sliceAxis,
    },
    labels,
    ...(labels === 'required' ? { classes: model.classes } : {}),
    cacheDir: options.cacheDir ?? defaultCacheDir(),
    skipBad: options.skipBad ?? false,
    ...(options.signal ? { signal: options.signal } : {}),
    onProgress: (done, total, id) => options.onEvent?.({ kind: 'cases', what: 'prepare', done, total, id }),
  });
  for (const message of prepared.warnings) options.onEvent?.({ kind: 'warning', message });
  warnLeftOut(prepared.skipped, ids.length, options.onEvent);
  return prepared;
}

function warnLeftOut(
  bad: readonly { readonly id: string; readonly error: MaclError }[],
  total: number,
  onEvent: OnEvent | undefined,
): void {
  if (bad.length === 0) return;
  for (const { id, error } of bad) onEvent?.({ kind: 'warning', message: `left out ${id}: ${error.message}` });
  const count = new Set(bad.map(({ id }) => id)).size;
  onEvent?.({ kind: 'warning', message: `${count} of ${total} cases were left out (--skip-bad)` });
}

/** Rules of the data's channels: a repeated channel is prepared once. */
function dataNormalization(model: ModelDescription, channels: number) {
  return model.normalization.slice(0, channels);
}
