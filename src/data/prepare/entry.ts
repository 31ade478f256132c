/**
 * What goes into a cache entry: the voxels of a prepared image or of prepared labels, and the JSON beside them. Pure
 * apart from reading the case's own files. Node only.
 */
import { crc32 } from 'node:zlib';
import { MaclError } from '../../errors.js';
import { isArrayOf } from '../../realm.js';
import { Breather } from '../../breathe.js';
import { mapLabels, readCaseImage, readCaseLabel } from '../case-io.js';
import { type Dataset, type DatasetCase, type DatasetClass } from '../dataset.js';
import type { DType } from '../../graph/types.js';
import { toHalf } from '../../half.js';
import { type AppliedNormalization } from './normalize.js';
import { copyBytes, type NiftiHeader, orientationOf, rasGrid } from '../nifti/index.js';
import { freeBytes } from '../../backend/limits-node.js';
import { checkPreparedSize } from './size.js';
import { axisOrder, permuteTriple, permuteVoxels, prepareVolume, sizeOf, type VolumeSettings } from './steps.js';
import { resampleNearest } from './resample.js';
import { rawTensor, SAFETENSORS_DTYPES, type RawTensor } from '../safetensors.js';
import { IGNORE_LABEL, type Triple } from '../../volume.js';

export type StoredDtype = 'fp16' | 'fp32' | 'int16';
/** The same as programs and codecs name it. */
export const STORED: Readonly<Record<StoredDtype, DType>> = { fp16: 'f16', fp32: 'f32', int16: 'i16' };
export type StorageChoice = 'auto' | StoredDtype;

/** The most voxels a class whose places are kept for foreground-centred patches. */
const FOREGROUND_A_CLASS = 4096;
/** The largest binary16. */
const HALF_MAX = 65504;
const BLOCK = 1 << 14;

export interface ImageInfo {
  channels: number;
  shape: Triple;
  /** The extent over the shape: within rounding of the plan's spacing. */
  spacingMm: Triple;
  dtype: StoredDtype;
  /** value = stored × scale */
  scale: number;
  applied: AppliedNormalization[];
  /** The case's own RAS grid, before the slice axis was moved. */
  source: { shape: Triple; spacingMm: Triple; affine: number[] };
  nonFinite: number;
  warnings: string[];
  /** Of the stored voxels: other volumes under the same name have another. */
  crc32: number;
}

export interface LabelInfo {
  shape: Triple;
  /** Voxels a class index, of the prepared labels. */
  classVoxels: number[];
  ignoredVoxels: number;
  /** For each class index how many of its places `foreground` holds, one class after the other (0 for background). */
  foregroundCounts: number[];
  crc32: number;
  warnings: string[];
}

interface Built<T> {
  info: T;
  tensors: Map<string, RawTensor>;
}

/** Bytes that are summed at once: the event loop has its turn in between. */
const CRC_BYTES = 1 << 22;

async function crc32Of(bytes: Uint8Array, signal: AbortSignal | undefined): Promise<number> {
  const breath = new Breather(signal);
  let sum = 0;
  for (let at = 0; at < bytes.length; at += CRC_BYTES) {
    sum = crc32(bytes.subarray(at, at + CRC_BYTES), sum);
    if (breath.due()) await breath.breathe();
  }
  return sum;
}

function largestIn(values: Float32Array, start: number, end: number): number {
  let largest = 0;
  for (let i = start; i < end; i++) largest = Math.max(largest, Math.abs(values[i]!));
  return largest;
}

async function encode(
  image: Float32Array,
  shape: number[],
  choice: StorageChoice,
  file: string,
  signal: AbortSignal | undefined,
): Promise<{ dtype: StoredDtype; scale: number; tensor: RawTensor }> {
  const breath = new Breather(signal);
  let largest = 0;
  for (let start = 0; start < image.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, image.length);
    largest = Math.max(largest, largestIn(image, start, end));
    if (breath.due()) await breath.breathe();
  }
  if (!Number.isFinite(largest)) {
    throw new MaclError('file', `${file}: voxels: too large for float32 after normalisation`, {
      file,
      field: 'voxels',
    });
  }
  const dtype = choice === 'auto' ? (largest <= HALF_MAX ? 'fp16' : 'fp32') : choice;
  if (dtype === 'fp32') return { dtype, scale: 1, tensor: rawTensor(image, shape) };
  const scale = dtype === 'int16' && largest > 0 ? largest / 32767 : 1;
  const out = dtype === 'fp16' ? new Uint16Array(image.length) : new Int16Array(image.length);
  for (let start = 0; start < image.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, image.length);
    if (isArrayOf(out, 'Uint16Array')) toHalf(image.subarray(start, end), out.subarray(start, end));
    else for (let i = start; i < end; i++) out[i] = Math.round(image[i]! / scale);
    if (breath.due()) await breath.breathe();
  }
  return { dtype, scale, tensor: rawTensor(out, shape, SAFETENSORS_DTYPES[STORED[dtype]]) };
}

/** Reads and prepares the image of a case. Throws MaclError naming the file. */
export async function buildImageEntry(
  dataset: Dataset,
  item: DatasetCase,
  settings: VolumeSettings & { nonFinite?: 'refuse' | 'zero'; storage?: StorageChoice },
  signal?: AbortSignal,
): Promise<Built<ImageInfo>> {
  const reading = {
    ...(settings.nonFinite && { nonFinite: settings.nonFinite }),
    ...(signal && { signal }),
    onHeader: (header: NiftiHeader): void => {
      const grid = rasGrid(orientationOf(header.shape, header.affine));
      checkPreparedSize(
        header.file,
        sizeOf(grid, header.channels, settings, header.voxelBytes + copyBytes(header)),
        freeBytes(),
      );
    },
  };
  const { volume, nonFinite, warnings } = await readCaseImage(dataset, item, reading);
  const file = item.images[0]!;
  const prepared = await prepareVolume(volume, settings, file, freeBytes(), signal);
  const { channels, shape, spacingMm, applied } = prepared;
  const stored = await encode(prepared.image, [channels, ...shape], settings.storage ?? 'auto', file, signal);
  const { grid } = volume;
  const source = { shape: grid.shape, spacingMm: grid.spacingMm, affine: [...grid.affine] };
  const { dtype, scale, tensor } = stored;
  return {
    info: {
      channels,
      shape,
      spacingMm,
      dtype,
      scale,
      applied,
      source,
      nonFinite,
      warnings: [...warnings, ...prepared.warnings],
      crc32: await crc32Of(tensor.bytes, signal),
    },
    tensors: new Map([['image', tensor]]),
  };
}

function countBlock(labels: Uint8Array, start: number, end: number, histogram: Float64Array): void {
  for (let i = start; i < end; i++) histogram[labels[i]!]!++;
}

/** Places of each class, at most FOREGROUND_A_CLASS, evenly spread in memory order; background has none. */
async function foregroundPlaces(
  labels: Uint8Array,
  classes: number,
  breath: Breather,
): Promise<{ counts: number[]; places: Int32Array; kept: number[]; ignored: number }> {
  const histogram = new Float64Array(256);
  for (let start = 0; start < labels.length; start += BLOCK) {
    countBlock(labels, start, Math.min(start + BLOCK, labels.length), histogram);
    if (breath.due()) await breath.breathe();
  }
  const counts = [...histogram.subarray(0, classes)];
  const kept = counts.map((count, n) => (n === 0 ? 0 : Math.min(count, FOREGROUND_A_CLASS)));
  const starts = kept.map((_, n) => kept.slice(0, n).reduce((sum, count) => sum + count, 0));
  const places = new Int32Array(kept.reduce((sum, count) => sum + count, 0));
  const seen = new Float64Array(classes);
  const taken = new Float64Array(classes);
  const takeBlock = (start: number, end: number): void => {
    for (let i = start; i < end; i++) {
      const label = labels[i]!;
      if (label === 0 || label >= classes) continue;
      // Place k of a class is its voxel of rank floor(k·count/kept).
      const k = taken[label]!;
      if (seen[label]!++ !== Math.floor((k * counts[label]!) / kept[label]!)) continue;
      places[starts[label]! + k] = i;
      taken[label] = k + 1;
    }
  };
  for (let start = 0; start < labels.length; start += BLOCK) {
    takeBlock(start, Math.min(start + BLOCK, labels.length));
    if (breath.due()) await breath.breathe();
  }
  return { counts, places, kept, ignored: histogram[IGNORE_LABEL]! };
}

/** Reads and prepares the labels of a case, on the grid of its image entry. Throws MaclError naming the file. */
export async function buildLabelEntry(
  dataset: Dataset,
  item: DatasetCase,
  imageInfo: unknown,
  settings: VolumeSettings,
  classes: readonly DatasetClass[],
  signal?: AbortSignal,
): Promise<Built<LabelInfo>> {
  const { source, shape } = imageInfo as ImageInfo;
  const grid = { shape: source.shape, spacingMm: source.spacingMm, affine: Float64Array.from(source.affine) };
  const raw = await readCaseLabel(item, grid, signal);
  const mapped = await mapLabels(raw.volume.voxels, classes, dataset.ignoreValue, item.label!, signal);
  const breath = new Breather(signal);
  const order = axisOrder(settings.sliceAxis);
  const permuted = await permuteVoxels(mapped, 1, source.shape, order, breath);
  const labels = await resampleNearest(permuted, permuteTriple(source.shape, order), shape, breath);
  const { counts, places, kept, ignored } = await foregroundPlaces(labels, classes.length, breath);
  return {
    info: {
      shape,
      classVoxels: counts,
      ignoredVoxels: ignored,
      foregroundCounts: kept,
      warnings: raw.warnings,
      crc32: await crc32Of(labels, signal),
    },
    tensors: new Map([
      ['foreground', rawTensor(places, [places.length])],
      ['labels', rawTensor(labels, [...shape])],
    ]),
  };
}
