/**
 * What a planner needs to know of a dataset: shapes, spacings, intensities a channel, label counts. Every file is read
 * once; results are kept in the cache, a case an entry. A bad file is reported, not thrown, so that one pass names them
 * all. Node only.
 */
import { type Fingerprint as PlannerFingerprint } from '../config/fingerprint.js';
import { MaclError } from '../errors.js';
import { Breather } from './breathe.js';
import { Cache, stampFiles } from './cache.js';
import { countValues, IGNORE_LABEL, mapLabels, readCaseImage, readCaseLabel, classesFromValues } from './case-io.js';
import { type Dataset, type DatasetClass, selectCases } from './dataset.js';
import { type ChannelNormalization } from './normalize.js';
import { axisOrder, permuteTriple, type SliceAxis } from './prepare-volume.js';
import { asFloat32, rawTensor } from './safetensors.js';
import { readSafetensorsFile } from './files.js';
import { type Triple, type VoxelArray } from './volume.js';

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
  /** Cases that cannot be read, and why. */
  bad: { id: string; error: MaclError }[];
}

export interface FingerprintOptions {
  caseIds: readonly string[];
  /** Look at labels too (foreground intensities, label counts). */
  labels: boolean;
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
  const centre = values[values.length >> 1]!;
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

interface Looked {
  info: CaseFingerprint;
  samples: Float32Array[];
}

async function look(
  dataset: Dataset,
  id: string,
  options: FingerprintOptions,
  cache: Cache | undefined,
): Promise<Looked> {
  const { signal } = options;
  const item = selectCases(dataset, [id])[0]!;
  const withLabel = options.labels && item.label !== undefined;
  let path: string | undefined;
  if (cache && !item.missing.length) {
    const files = await stampFiles(dataset.root, [...item.images, ...(withLabel ? [item.label!] : [])]);
    const { classes, ignoreValue, channels } = dataset;
    const settings = { classes, ignoreValue, channels, nonFinite: options.nonFinite, sliceAxis: options.sliceAxis };
    path = cache.path(id, 'fingerprint', { files, withLabel, settings });
    const entry = await cache.find(path);
    if (entry) {
      const { tensors } = await readSafetensorsFile(path);
      const samples = dataset.channelNames.map((_, c) => asFloat32(tensors.get(`samples.${c}`)!));
      return { info: entry.info as CaseFingerprint, samples };
    }
  }
  const { volume, nonFinite, warnings } = await readCaseImage(dataset, item, options);
  const breath = new Breather(signal);
  let labelVoxels: CaseFingerprint['labelVoxels'] = null;
  let labels: Uint8Array | undefined;
  if (withLabel) {
    const raw = await readCaseLabel(item, volume.grid, signal);
    const counts = await countValues(raw.voxels, item.label!, signal);
    labelVoxels = Object.fromEntries([...counts].sort(([a], [b]) => a - b));
    const classes = dataset.classes.length ? dataset.classes : classesFromValues(counts.keys(), item.label!);
    labels = await mapLabels(raw.voxels, classes, dataset.ignoreValue, item.label!, signal);
  }
  const order = axisOrder(options.sliceAxis);
  const count = volume.voxels.length / volume.channels;
  const info: CaseFingerprint = {
    id,
    shape: permuteTriple(volume.grid.shape, order),
    spacingMm: permuteTriple(volume.grid.spacingMm, order),
    channels: [],
    labelVoxels,
    nonFinite,
    warnings,
  };
  const samples: Float32Array[] = [];
  for (let c = 0; c < volume.channels; c++) {
    const values = volume.voxels.subarray(c * count, (c + 1) * count);
    info.channels.push(await channelStatistics(values, breath));
    samples.push(await sampleVoxels(values, labels, breath));
  }
  if (cache && path !== undefined) {
    const tensors = new Map(samples.map((values, c) => [`samples.${c}`, rawTensor(values, [values.length])]));
    await cache.publish(path, info, tensors, signal);
  }
  return { info, samples };
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

/** Looks at cases. Bad ones are listed in `bad`; throws only MaclError `aborted`, or for the cache folder. */
export async function fingerprint(dataset: Dataset, options: FingerprintOptions): Promise<Fingerprint> {
  const cache = options.cacheDir === undefined ? undefined : await Cache.open(options.cacheDir, dataset.root);
  const looked: Looked[] = [];
  const bad: Fingerprint['bad'] = [];
  const ids = selectCases(dataset, options.caseIds).map(({ id }) => id);
  for (const [n, id] of ids.entries()) {
    try {
      looked.push(await look(dataset, id, options, cache));
    } catch (error) {
      if (!(error instanceof MaclError) || error.code === 'aborted') throw error;
      bad.push({ id, error });
    }
    options.onProgress?.(n + 1, ids.length, id);
  }
  const labelVoxels: Record<string, number> = {};
  for (const { info } of looked) {
    for (const [value, count] of Object.entries(info.labelVoxels ?? {})) {
      labelVoxels[value] = (labelVoxels[value] ?? 0) + count;
    }
  }
  // A case without labels says nothing of the foreground where others do.
  const labelled = looked.filter(({ info }) => info.labelVoxels !== null);
  const foreground = labelled.some(({ samples }) => samples[0]!.length > 0);
  const pooled = foreground ? labelled : looked;
  const channels = dataset.channelNames.map((_, c) =>
    pool(
      pooled.map(({ samples }) => samples[c]!),
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
    bad,
  };
}

/** The rule of each channel by its kind, with the data set's numbers where the kind needs them. */
export function normalizationFrom(found: Fingerprint, kinds: Dataset['kinds']): ChannelNormalization[] {
  return kinds.map((kind, c): ChannelNormalization => {
    if (kind !== 'ct') return { kind: 'case' };
    const { p005: low, p995: high, mean, std } = found.channels[c]!;
    return { kind: 'ct', low, high, mean, std };
  });
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
