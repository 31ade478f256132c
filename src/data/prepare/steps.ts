/**
 * One volume made ready for a network: the slice axis brought to D, channels normalised, resampled to the plan's
 * spacing. The same for training (`prepare.ts`) and for prediction. Typed arrays in and out, no files.
 */
import { MaclError } from '../../errors.js';
import { emptyLike } from '../../realm.js';
import { Breather } from '../../breathe.js';
import { type AppliedNormalization, type ChannelNormalization, measureChannel, normalizeInto } from './normalize.js';
import { copyStrided } from '../orientation.js';
import { checkPreparedSize, type PreparedSize } from './size.js';
import { resampledShape, resampledSpacing, resampleLinear } from './resample.js';
import { type Grid, type Triple, type Volume, type VoxelArray } from '../../volume.js';

/** Which axis of the RAS volume 2-D slices are taken along; it becomes D. */
export type SliceAxis = 'D' | 'H' | 'W';

export interface VolumeSettings {
  /** D, H, W after the slice axis has become D; null keeps every volume's own spacing. */
  spacingMm: Triple | null;
  /** One rule a channel. */
  normalize: readonly ChannelNormalization[];
  sliceAxis?: SliceAxis;
}

/** For each prepared axis the RAS axis (0 D, 1 H, 2 W) that it is. */
export function axisOrder(sliceAxis: SliceAxis = 'D'): Triple {
  if (sliceAxis === 'H') return [1, 0, 2];
  return sliceAxis === 'W' ? [2, 0, 1] : [0, 1, 2];
}

export function permuteTriple(triple: Triple, order: Triple): Triple {
  return [triple[order[0]]!, triple[order[1]]!, triple[order[2]]!];
}

/** [C, D, H, W] with its axes in another order; `inverse` undoes it (`shape` is always the RAS shape). */
export async function permuteVoxels<T extends VoxelArray>(
  voxels: T,
  channels: number,
  shape: Triple,
  order: Triple,
  breath: Breather,
  inverse = false,
): Promise<T> {
  if (order.every((axis, n) => axis === n)) return voxels;
  const count = shape[0] * shape[1] * shape[2];
  const rasStrides = permuteTriple([shape[1] * shape[2], shape[2], 1], order);
  const permuted = permuteTriple(shape, order);
  const plain: Triple = [permuted[1] * permuted[2], permuted[2], 1];
  const out = emptyLike(voxels, count * channels);
  for (let c = 0; c < channels; c++) {
    const [from, to] = inverse ? [plain, rasStrides] : [rasStrides, plain];
    await copyStrided(voxels, c * count, from, out, c * count, to, permuted, breath);
  }
  return out;
}

export interface PreparedVolume {
  /** [C, D, H, W] */
  image: Float32Array;
  channels: number;
  shape: Triple;
  /** What the spacing really is: the volume's extent over its new shape. */
  spacingMm: Triple;
  /** Shape and spacing before resampling, with the slice axis as D already. */
  original: { shape: Triple; spacingMm: Triple };
  applied: AppliedNormalization[];
  /** What is worth saying of the voxels, by name and channel. */
  warnings: string[];
}

/** A volume on its RAS grid as `checkPreparedSize` takes it; each prepared voxel is a float32, and stored once more. */
export function sizeOf(grid: Grid, channels: number, settings: VolumeSettings, beside: number): PreparedSize {
  const order = axisOrder(settings.sliceAxis);
  const shape = permuteTriple(grid.shape, order);
  const spacingMm = permuteTriple(grid.spacingMm, order);
  return { shape, spacingMm, targetMm: settings.spacingMm, channels, bytes: { each: 8, beside } };
}

/** Prepares a RAS volume. `name` is for errors, `freeBytes` may still be taken. Throws MaclError `dataset` where the channels do not fit. */
export async function prepareVolume(
  volume: Volume,
  settings: VolumeSettings,
  name: string,
  freeBytes: number,
  signal?: AbortSignal,
): Promise<PreparedVolume> {
  const { channels } = volume;
  if (channels !== settings.normalize.length) {
    const words = `${name}: channels: expected ${settings.normalize.length}, found ${channels}`;
    const details = { file: name, field: 'channels', expected: settings.normalize.length, found: channels };
    throw new MaclError('dataset', words, details);
  }
  const order = axisOrder(settings.sliceAxis);
  const unlikely = checkPreparedSize(name, sizeOf(volume.grid, channels, settings, 0), freeBytes);
  const breath = new Breather(signal);
  const voxels = await permuteVoxels(volume.voxels, channels, volume.grid.shape, order, breath);
  const shape = permuteTriple(volume.grid.shape, order);
  const spacingMm = permuteTriple(volume.grid.spacingMm, order);
  const count = shape[0] * shape[1] * shape[2];
  const outShape = settings.spacingMm ? resampledShape(shape, spacingMm, settings.spacingMm) : shape;
  const outCount = outShape[0] * outShape[1] * outShape[2];
  const planeSize = shape[1] * shape[2];
  const image = new Float32Array(outCount * channels);
  const applied: AppliedNormalization[] = [];
  const warnings = unlikely === undefined ? [] : [unlikely];
  for (let c = 0; c < channels; c++) {
    const from = voxels.subarray(c * count, (c + 1) * count);
    const { applied: done, warning } = await measureChannel(from, settings.normalize[c]!, breath);
    if (!Number.isFinite(done.mean) || !Number.isFinite(done.std)) {
      const words = `${name}: voxels: ${channels > 1 ? `channel ${c}: ` : ''}values are so large that their mean or deviation is not finite`;
      throw new MaclError('file', words, { file: name, field: 'voxels', found: [done.mean, done.std] });
    }
    applied.push(done);
    if (warning !== undefined) warnings.push(`${name}: ${channels > 1 ? `channel ${c}: ` : ''}${warning}`);
    const readPlane = (d: number, plane: Float32Array): void => {
      normalizeInto(from.subarray(d * planeSize, (d + 1) * planeSize), done, plane);
    };
    await resampleLinear(readPlane, shape, outShape, image.subarray(c * outCount, (c + 1) * outCount), breath);
  }
  return {
    image,
    channels,
    shape: outShape,
    spacingMm: resampledSpacing(shape, spacingMm, outShape),
    original: { shape, spacingMm },
    applied,
    warnings,
  };
}
