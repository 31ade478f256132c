/**
 * Prepared cases: read, turned to RAS, checked, normalised, resampled, stored raw in the cache, so that a whole case or
 * a box of it is read without decompression. Image and labels are separate entries: pre-training and fine-tuning share
 * the images. All bad files are collected before anything is thrown. Node only.
 */
import { MaclError } from '../../errors.js';
import { asCaseError, Cache, type CacheEntry, defaultCacheDir, stampFiles } from '../cache.js';
import { classesFromValues, countValues, readCaseImage, readLabelVolume } from '../case-io.js';
import { type Dataset, type DatasetCase, type DatasetClass, selectCases } from '../dataset.js';
import { type ChannelNormalization } from './normalize.js';
import { type SliceAxis } from './steps.js';
import { PreparedCase } from './prepared-case.js';
import { buildImageEntry, buildLabelEntry, type StorageChoice } from './entry.js';
import { type Triple } from '../../volume.js';

export interface PrepareSettings {
  /** D, H, W with the slice axis as D; null keeps each case's own. */
  spacingMm: Triple | null;
  /** One rule a channel: the plan's. */
  normalize: readonly ChannelNormalization[];
  nonFinite?: 'refuse' | 'zero';
  sliceAxis?: SliceAxis;
  /** How voxels are stored; `auto` (default) is fp16, or fp32 where fp16 does not reach. */
  storage?: StorageChoice;
}

export interface PrepareOptions {
  dataset: Dataset;
  caseIds: readonly string[];
  settings: PrepareSettings;
  /** `required`: a case without label is bad; `optional`: read where there is one; `none`: not looked at. */
  labels?: 'required' | 'optional' | 'none';
  /** Label values and names; default the dataset's, or, where it has none, those found in the labels. */
  classes?: readonly DatasetClass[];
  /** Default: `defaultCacheDir()`. */
  cacheDir?: string;
  /** Leave bad cases out (they are in `skipped`) instead of throwing. */
  skipBad?: boolean;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number, id: string) => void;
  /** Called for every bad case as soon as it is found. */
  onBad?: (id: string, error: MaclError) => void;
}

export interface PreparedDataset {
  dataset: Dataset;
  settings: PrepareSettings;
  channels: number;
  /** What the indices in `labels` mean; index 0 is the background. Empty where labels were not asked for. */
  classes: DatasetClass[];
  /** Sorted by id. */
  cases: PreparedCase[];
  skipped: { id: string; error: MaclError }[];
  warnings: string[];
  cacheDir: string;
}

/** The errors behind the one that `prepareDataset` throws: one a bad file. */
export function badFiles(error: unknown): MaclError[] {
  if (!(error instanceof MaclError)) return [];
  const { errors } = (error.cause ?? {}) as { errors?: unknown };
  return Array.isArray(errors) ? (errors as MaclError[]) : [error];
}

/** One error for all bad files, a line each; a case may have several. */
export function badCasesError(
  root: string,
  bad: readonly { id: string; error: MaclError }[],
  total: number,
  what = 'cannot be used (--skip-bad leaves them out)',
): MaclError {
  const lines = bad.map(({ id, error }) => `  ${id}: ${error.message}`);
  const ids = [...new Set(bad.map(({ id }) => id))];
  const words = `${root}: ${ids.length} of ${total} cases ${what}:\n${lines.join('\n')}`;
  const cause = new AggregateError(bad.map(({ error }) => error));
  return new MaclError('dataset', words, { file: root, field: 'cases', found: ids }, { cause });
}

/** The classes that the labels of some cases hold. Bad files are skipped here: preparing them reports them. */
async function discoverClasses(
  dataset: Dataset,
  cases: readonly DatasetCase[],
  cache: Cache,
  signal?: AbortSignal,
): Promise<DatasetClass[]> {
  const values = new Set<number>();
  for (const { label } of cases) {
    if (label === undefined) continue;
    try {
      const { voxels } = (await readLabelVolume(label, signal)).volume;
      for (const value of (await countValues(voxels, label, signal)).keys()) values.add(value);
    } catch (error) {
      asCaseError(error, cache);
    }
  }
  if (dataset.ignoreValue !== undefined) values.delete(dataset.ignoreValue);
  return classesFromValues(values, dataset.root);
}

async function prepareCase(
  options: PrepareOptions,
  item: DatasetCase,
  classes: readonly DatasetClass[],
  cache: Cache,
): Promise<PreparedCase> {
  const { dataset, settings, signal } = options;
  const labels = options.labels ?? 'none';
  if (item.missing.length) await readCaseImage(dataset, item, {});
  const wanted = labels === 'required' || (labels === 'optional' && (item.label ?? item.missingLabel) !== undefined);
  if (wanted && item.label === undefined) {
    const file = item.missingLabel ?? item.images[0]!;
    const words = item.missingLabel ? `${file}: label: is missing` : `${file}: label: case ${item.id} has none`;
    throw new MaclError('dataset', words, { file, field: 'label' });
  }
  const files = await stampFiles(dataset.root, item.images);
  const { spacingMm, normalize, sliceAxis = 'D', nonFinite = 'refuse', storage = 'auto' } = settings;
  const grid = { spacingMm, sliceAxis };
  const imagePath = cache.path(item.id, 'image', {
    files,
    grid,
    normalize,
    nonFinite,
    storage,
    channels: dataset.channels,
  });
  let image = await cache.find(imagePath, signal);
  if (!image) {
    const built = await buildImageEntry(dataset, item, settings, signal);
    image = await cache.publish(imagePath, built.info, built.tensors, signal);
  }
  let label: CacheEntry | undefined;
  if (wanted) {
    const labelFiles = await stampFiles(dataset.root, [item.label!]);
    const key = { files, labelFiles, grid, classes, ignoreValue: dataset.ignoreValue };
    const labelPath = cache.path(item.id, 'label', key);
    label = await cache.find(labelPath, signal);
    if (!label) {
      const built = await buildLabelEntry(dataset, item, image.info, settings, classes, signal);
      label = await cache.publish(labelPath, built.info, built.tensors, signal);
    }
  }
  return new PreparedCase(item.id, image, label);
}

/**
 * Prepares cases, or finds them in the cache. Throws MaclError: `dataset` naming every bad file (see `badFiles`) unless
 * `skipBad`, `aborted`, `config` for a cache inside the dataset.
 */
export async function prepareDataset(options: PrepareOptions): Promise<PreparedDataset> {
  const { dataset, settings, signal } = options;
  const items = selectCases(dataset, options.caseIds);
  const cacheDir = options.cacheDir ?? defaultCacheDir();
  const cache = await Cache.open(cacheDir, dataset.root);
  let classes = [...(options.classes ?? dataset.classes)];
  const labels = options.labels ?? 'none';
  if (labels === 'none') classes = [];
  else if (!classes.length) classes = await discoverClasses(dataset, items, cache, signal);
  const cases: PreparedCase[] = [];
  const bad: PreparedDataset['skipped'] = [];
  for (const [n, item] of items.entries()) {
    try {
      cases.push(await prepareCase(options, item, classes, cache));
    } catch (caught) {
      const error = asCaseError(caught, cache);
      bad.push({ id: item.id, error });
      options.onBad?.(item.id, error);
    }
    options.onProgress?.(n + 1, items.length, item.id);
  }
  if (bad.length && !(options.skipBad && cases.length)) throw badCasesError(dataset.root, bad, items.length);
  return {
    dataset,
    settings,
    channels: dataset.channels,
    classes,
    cases,
    skipped: bad,
    warnings: [...cache.damaged, ...cases.flatMap(({ warnings }) => warnings)],
    cacheDir: cache.folder,
  };
}
