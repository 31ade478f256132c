/**
 * What a planner needs to know of a dataset: shapes, spacings, intensities a channel, label counts. Every file is read
 * once; results are kept in the cache, a case an entry. A bad file is reported, not thrown, so that one pass names them
 * all. Node only.
 */
import { createHash } from 'node:crypto';
import { type Fingerprint as PlannerFingerprint } from '../settings/fingerprint.js';
import { type MaclError } from '../errors.js';
import { Breather } from '../breathe.js';
import { asCaseError, Cache, stampFiles } from './cache.js';
import {
  classesFromValues,
  countValues,
  mapLabels,
  missingFile,
  readCaseImage,
  readCaseLabel,
  readImages,
  readLabelVolume,
} from './case-io.js';
import { type Dataset, type DatasetCase, type DatasetClass, selectCases } from './dataset.js';
import { axisOrder, permuteTriple, type SliceAxis } from './prepare/steps.js';
import { asFloat32, rawTensor } from './safetensors.js';
import { readSafetensorsFile } from './files.js';
import { type Grid, IGNORE_LABEL, type Triple, type VoxelArray } from '../volume.js';

/** Voxels that one case adds to the pool from which percentiles are taken, a channel. */
const SAMPLES_A_CASE = 10_000;

export interface CaseFingerprint {
  id: string;
  /** D, H, W, with the slice axis as D. */
  shape: Triple;
  spacingMm: Triple;
  channels: { min: number; max: number; mean: number; std: number; zeroShare: number }[];
  /** Voxels a label value (as the file holds it); null where the case has no label, or labels were not asked for. */
  labelVoxels: Record<string, number> | null;
  nonFinite: number;
  warnings: string[];
}

/** What the sampled voxels of a case tell of the case itself. */
export interface CaseVoxels {
  id: string;
  /** Equal for images of equal voxels, whatever their files; null for an image without contrast. */
  digest: string | null;
  /** The values of an image that has a few whole ones only, as a mask has; else null. */
  fewValues: number[] | null;
}

export interface ChannelFingerprint {
  /** Foreground voxels where any case has labels, else all voxels. */
  from: 'foreground' | 'all';
  /** The 0.5 and 99.5 percentiles. */
  p005: number;
  p995: number;
  min: number;
  max: number;
  median: number;
  mean: number;
  std: number;
}

export interface Fingerprint {
  cases: CaseFingerprint[];
  channels: ChannelFingerprint[];
  /** The dataset's classes, or those found in the labels. */
  classes: DatasetClass[];
  /** Voxels a label value over all labelled cases. */
  labelVoxels: Record<string, number>;
  /** One a case of `cases`. */
  voxels: CaseVoxels[];
  /** Files that cannot be used, and why: a case may have several. */
  bad: { id: string; error: MaclError }[];
  /** Entries of the cache that were damaged and made again. */
  warnings: string[];
}

export interface FingerprintOptions {
  caseIds: readonly string[];
  /**
   * Look at labels too (foreground intensities, label counts). `true`: a label that dataset.json names and that is not
   * there is a bad file; `present`: its case is one without a label. `false`: no label is opened.
   */
  labels: boolean | 'present';
  nonFinite?: 'refuse' | 'zero';
  sliceAxis?: SliceAxis;
  cacheDir?: string;
  signal?: AbortSignal;
  onProgress?: (done: number, total: number, id: string) => void;
}

/** Voxels between two looks at the clock. */
const BLOCK = 1 << 16;

interface Totals {
  min: number;
  max: number;
  sum: number;
  zeros: number;
  /** Squares of the distance from `centre`. */
  squares: number;
}

function addBlock(values: VoxelArray, start: number, end: number, centre: number, totals: Totals): void {
  let { min, max, sum, zeros, squares } = totals;
  for (let i = start; i < end; i++) {
    const value = values[i]!;
    if (value < min) min = value;
    if (value > max) max = value;
    if (value === 0) zeros++;
    sum += value - centre;
    squares += (value - centre) * (value - centre);
  }
  Object.assign(totals, { min, max, sum, zeros, squares });
}

async function channelStatistics(values: VoxelArray, breath: Breather): Promise<CaseFingerprint['channels'][number]> {
  const totals: Totals = { min: Infinity, max: -Infinity, sum: 0, zeros: 0, squares: 0 };
  // Distances from some voxel of the middle: float64 keeps more than is shown, and one pass is enough.
  const centre = values[Math.floor(values.length / 2)]!;
  for (let start = 0; start < values.length; start += BLOCK) {
    addBlock(values, start, Math.min(start + BLOCK, values.length), centre, totals);
    if (breath.due()) await breath.breathe();
  }
  const { min, max, sum, zeros, squares } = totals;
  const shift = sum / values.length;
  const std = Math.sqrt(Math.max(0, squares / values.length - shift * shift));
  return { min, max, mean: centre + shift, std, zeroShare: zeros / values.length };
}

const isForeground = (label: number): boolean => label !== 0 && label !== IGNORE_LABEL;

function countForeground(labels: Uint8Array, start: number, end: number): number {
  let count = 0;
  for (let i = start; i < end; i++) if (isForeground(labels[i]!)) count++;
  return count;
}

/** At most SAMPLES_A_CASE voxels, evenly spread over those that `labels` says are foreground (all without labels). */
async function sampleVoxels(
  values: VoxelArray,
  labels: Uint8Array | undefined,
  breath: Breather,
): Promise<Float32Array> {
  let count = values.length;
  if (labels) {
    count = 0;
    for (let start = 0; start < labels.length; start += BLOCK) {
      count += countForeground(labels, start, Math.min(start + BLOCK, labels.length));
      if (breath.due()) await breath.breathe();
    }
  }
  const out = new Float32Array(Math.min(count, SAMPLES_A_CASE));
  // Sample k is the voxel of rank floor(k·count/take) among those that count.
  const rank = (k: number): number => Math.floor((k * count) / out.length);
  if (!labels) return out.map((_, k) => values[rank(k)]!);
  const state = { seen: 0, taken: 0 };
  const takeBlock = (start: number, end: number): void => {
    let { seen, taken } = state;
    let next = rank(taken);
    for (let i = start; i < end; i++) {
      if (!isForeground(labels[i]!)) continue;
      if (seen++ !== next) continue;
      out[taken++] = values[i]!;
      next = taken < out.length ? rank(taken) : -1;
    }
    Object.assign(state, { seen, taken });
  };
  for (let start = 0; start < labels.length && state.taken < out.length; start += BLOCK) {
    takeBlock(start, Math.min(start + BLOCK, labels.length));
    if (breath.due()) await breath.breathe();
  }
  return out;
}

/** Voxels of one channel: of all of the case, and of its foreground where its label was looked at. */
interface Samples {
  all: Float32Array;
  foreground?: Float32Array;
}

interface Looked {
  info: CaseFingerprint;
  samples: Samples[];
}

/** Label values and their counts, and class indices; held against the image's grid where that is known. */
async function readLabels(
  dataset: Dataset,
  item: DatasetCase,
  grid: Grid | undefined,
  signal: AbortSignal | undefined,
): Promise<{ counts: Map<number, number>; labels: Uint8Array }> {
  const file = item.label!;
  const { volume } = await (grid ? readCaseLabel(item, grid, signal) : readLabelVolume(file, signal));
  const { voxels } = volume;
  const counts = await countValues(voxels, file, signal);
  const classes = dataset.classes.length ? dataset.classes : classesFromValues(counts.keys(), file);
  return { counts, labels: await mapLabels(voxels, classes, dataset.ignoreValue, file, signal) };
}

/** Where the cache keeps the case: with what its label says, and without. */
async function entryPaths(
  dataset: Dataset,
  item: DatasetCase,
  options: FingerprintOptions,
  cache: Cache,
): Promise<{ labelled?: string; bare: string }> {
  const { classes, ignoreValue, channels } = dataset;
  const settings = { classes, ignoreValue, channels, nonFinite: options.nonFinite, sliceAxis: options.sliceAxis };
  const path = async (withLabel: boolean): Promise<string> => {
    const files = await stampFiles(dataset.root, [...item.images, ...(withLabel ? [item.label!] : [])]);
    return cache.path(item.id, 'fingerprint', { files, withLabel, settings });
  };
  return { ...(item.label !== undefined && { labelled: await path(true) }), bare: await path(false) };
}

/** The case as an entry has it, less what was not asked for: what is found does not depend on who filled the cache. */
async function recall(
  dataset: Dataset,
  id: string,
  path: string,
  withLabel: boolean,
  cache: Cache,
  signal: AbortSignal | undefined,
): Promise<Looked | undefined> {
  const entry = await cache.find(path, signal);
  if (!entry) return undefined;
  const { tensors } = await readSafetensorsFile(path, signal ? { signal } : {});
  const info = entry.info as CaseFingerprint;
  const samples = dataset.channelNames.map((_, c): Samples => {
    const all = asFloat32(tensors.get(`all.${c}`)!);
    return withLabel ? { all, foreground: asFloat32(tensors.get(`foreground.${c}`)!) } : { all };
  });
  return { info: { ...info, id, labelVoxels: withLabel ? info.labelVoxels : null }, samples };
}

async function look(
  dataset: Dataset,
  item: DatasetCase,
  options: FingerprintOptions,
  cache: Cache | undefined,
): Promise<Looked> {
  const { signal } = options;
  if (options.labels === true && item.missingLabel !== undefined) throw missingFile(item, 'label', item.missingLabel);
  const withLabel = options.labels !== false && item.label !== undefined;
  let path: string | undefined;
  if (cache && !item.missing.length) {
    const { labelled, bare } = await entryPaths(dataset, item, options, cache);
    path = withLabel ? labelled! : bare;
    // Who needs no label takes what `prepare` has found with it: it holds all that a look without would find.
    for (const kept of labelled === undefined || withLabel ? [path] : [labelled, bare]) {
      const found = await recall(dataset, item.id, kept, withLabel, cache, signal);
      if (found) return found;
    }
  }
  const { volume, nonFinite, warnings } = await readCaseImage(dataset, item, options);
  const breath = new Breather(signal);
  const label = withLabel ? await readLabels(dataset, item, volume.grid, signal) : undefined;
  const order = axisOrder(options.sliceAxis);
  const count = volume.voxels.length / volume.channels;
  const info: CaseFingerprint = {
    id: item.id,
    shape: permuteTriple(volume.grid.shape, order),
    spacingMm: permuteTriple(volume.grid.spacingMm, order),
    channels: [],
    labelVoxels: label ? Object.fromEntries([...label.counts].sort(([a], [b]) => a - b)) : null,
    nonFinite,
    warnings,
  };
  const samples: Samples[] = [];
  for (let c = 0; c < volume.channels; c++) {
    const values = volume.voxels.subarray(c * count, (c + 1) * count);
    info.channels.push(await channelStatistics(values, breath));
    const all = await sampleVoxels(values, undefined, breath);
    samples.push(label ? { all, foreground: await sampleVoxels(values, label.labels, breath) } : { all });
  }
  if (cache && path !== undefined) {
    const tensors = samples.flatMap((of, c) =>
      Object.entries(of).map(([name, values]) => [`${name}.${c}`, rawTensor(values, [values.length])] as const),
    );
    await cache.publish(path, info, new Map(tensors), signal);
  }
  return { info, samples };
}

/** Every bad file of a case whose reading stopped at `first`: each is looked at by itself. */
async function badFilesOf(
  dataset: Dataset,
  item: DatasetCase,
  options: FingerprintOptions,
  cache: Cache | undefined,
  first: MaclError,
): Promise<MaclError[]> {
  const errors = item.missing.map((file) => missingFile(item, 'image', file));
  const attempt = async (read: () => Promise<unknown>): Promise<void> => {
    try {
      await read();
    } catch (error) {
      errors.push(asCaseError(error, cache));
    }
  };
  let grid: Grid | undefined;
  for (const file of item.images) {
    if (item.missing.includes(file)) continue;
    await attempt(async () => {
      const { volume } = await readImages([file], options);
      grid ??= volume.grid;
    });
  }
  if (options.labels !== false && item.label !== undefined)
    await attempt(() => readLabels(dataset, item, grid, options.signal));
  else if (options.labels === true && item.missingLabel !== undefined)
    errors.push(missingFile(item, 'label', item.missingLabel));
  // Not found again: what is wrong with the files together.
  return errors.some(({ message }) => message === first.message) ? errors : [first, ...errors];
}

/** At most this many distinct whole values look like a mask. */
const FEW_VALUES = 8;

function voxelsOf({ info, samples }: Looked): CaseVoxels {
  const { id, shape, channels } = info;
  const hash = createHash('sha256').update(JSON.stringify([shape, channels]));
  const values = new Set<number>();
  for (const { all } of samples) {
    hash.update(new Uint8Array(all.buffer, all.byteOffset, all.byteLength));
    for (let i = 0; i < all.length && values.size <= FEW_VALUES; i++) values.add(all[i]!);
  }
  const contrast = channels.some(({ min, max }) => min < max);
  const few = contrast && values.size <= FEW_VALUES && [...values].every((value) => Number.isInteger(value));
  return {
    id,
    digest: contrast ? hash.digest('hex') : null,
    fewValues: few ? [...values].sort((a, b) => a - b) : null,
  };
}

/** Linear interpolation between order statistics of sorted values. */
function percentile(sorted: Float32Array, share: number): number {
  const at = share * (sorted.length - 1);
  const lower = Math.floor(at);
  const upper = Math.min(lower + 1, sorted.length - 1);
  return sorted[lower]! + (sorted[upper]! - sorted[lower]!) * (at - lower);
}

function pool(parts: Float32Array[], from: ChannelFingerprint['from']): ChannelFingerprint {
  const all = new Float32Array(parts.reduce((sum, part) => sum + part.length, 0));
  let at = 0;
  for (const part of parts) {
    all.set(part, at);
    at += part.length;
  }
  if (!all.length) return { from, p005: 0, p995: 0, min: 0, max: 0, median: 0, mean: 0, std: 0 };
  all.sort();
  const mean = all.reduce((sum, value) => sum + value, 0) / all.length;
  const std = Math.sqrt(all.reduce((sum, value) => sum + (value - mean) ** 2, 0) / all.length);
  return {
    from,
    p005: percentile(all, 0.005),
    p995: percentile(all, 0.995),
    min: all[0]!,
    max: all[all.length - 1]!,
    median: percentile(all, 0.5),
    mean,
    std,
  };
}

/**
 * Looks at cases. Bad files are listed in `bad`; throws MaclError only where that is no fault of a case's files:
 * `aborted`, `memory`, or for the cache.
 */
export async function fingerprint(dataset: Dataset, options: FingerprintOptions): Promise<Fingerprint> {
  const cache = options.cacheDir === undefined ? undefined : await Cache.open(options.cacheDir, dataset.root);
  const looked: Looked[] = [];
  const bad: Fingerprint['bad'] = [];
  const items = selectCases(dataset, options.caseIds);
  for (const [n, item] of items.entries()) {
    const { id } = item;
    try {
      looked.push(await look(dataset, item, options, cache));
    } catch (error) {
      const errors = await badFilesOf(dataset, item, options, cache, asCaseError(error, cache));
      bad.push(...errors.map((of) => ({ id, error: of })));
    }
    options.onProgress?.(n + 1, items.length, id);
  }
  const labelVoxels: Record<string, number> = {};
  for (const { info } of looked) {
    for (const [value, count] of Object.entries(info.labelVoxels ?? {})) {
      labelVoxels[value] = (labelVoxels[value] ?? 0) + count;
    }
  }
  // A case without labels says nothing of the foreground where others do.
  const foreground = looked.some(({ samples }) => samples[0]?.foreground?.length);
  const channels = dataset.channelNames.map((_, c) =>
    pool(
      looked.flatMap(({ samples }) => (foreground ? samples[c]!.foreground : samples[c]!.all) ?? []),
      foreground ? 'foreground' : 'all',
    ),
  );
  const values = Object.keys(labelVoxels).map(Number);
  const known = dataset.classes.length || !values.length;
  return {
    cases: looked.map(({ info }) => info),
    channels,
    classes: known ? dataset.classes : classesFromValues(values, dataset.root),
    labelVoxels,
    voxels: looked.map(voxelsOf),
    bad,
    warnings: cache?.damaged ?? [],
  };
}

/** What the planner takes of a fingerprint. */
export function plannerFingerprint(found: Fingerprint, dataset: Dataset): PlannerFingerprint {
  return {
    cases: found.cases.map(({ id, shape, spacingMm, channels, labelVoxels }) => {
      return { id, shape, spacingMm, channels: channels.length, labelled: labelVoxels !== null };
    }),
    channelKinds: dataset.kinds,
    intensity: found.channels.map(({ mean, std, p005, p995, min, max }) => ({ mean, sd: std, p005, p995, min, max })),
    classes: found.classes,
  };
}
