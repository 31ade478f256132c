/** One volume from its files (or bytes of files) to labels in the first file's own order of voxels, ready to be written. */
import type { Host } from '../backend/types.js';
import type { FinetuneConfig } from '../settings/types.js';
import { Breather } from '../breathe.js';
import { readImages } from '../data/case-io.js';
import { fromRas, type NiftiImage, type NiftiSource } from '../data/nifti/index.js';
import type { Volume } from '../volume.js';
import { memoryError } from '../errors.js';
import { labelValues, type LabelArray } from '../segment/label-values.js';
import type { LoadedModel } from '../model/description.js';
import type { Predictor, SegmentOptions } from './predictor.js';

export interface SegmentSourcesOptions extends Omit<SegmentOptions, 'onProbabilities'> {
  readonly name: string;
  readonly nonFinite: 'refuse' | 'zero';
  /** Give the probabilities too. */
  readonly probabilities: boolean;
}

export interface SegmentedSources {
  /** What writing needs of the first file. */
  readonly like: Pick<NiftiImage, 'header' | 'extensions'>;
  /** The dataset's own label values. */
  readonly voxels: LabelArray;
  /** A volume a class. */
  readonly probabilities?: Float32Array;
}

/** @param sources one a channel, or one with all channels */
export function segmentSources(
  predictor: Predictor,
  sources: readonly NiftiSource[],
  options: SegmentSourcesOptions,
): Promise<SegmentedSources> {
  const { model, classes } = predictor;
  return predictor.use(options.signal, async (call) => {
    const { signal } = call;
    const { like, volume, orientation } = await readSources(sources, { ...options, signal });
    const count = volume.grid.shape[0] * volume.grid.shape[1] * volume.grid.shape[2];
    const out = options.probabilities
      ? probabilityVoxels(count * classes.length, options.name, predictor.host)
      : undefined;
    const breath = new Breather(signal);
    const labels = await predictor.segmentIn(call, volume, {
      ...options,
      onProbabilities: out && placeRows(out, model, volume, breath),
    });
    const values = classes.map((c) => c.value);
    const voxels = await fromRas(await labelValues(labels, values, breath), orientation, 1, signal);
    if (!out) return { like, voxels };
    return { like, voxels, probabilities: await fromRas(out, orientation, classes.length, signal) };
  });
}

/** Two of these are held at once: as they are made, and turned to the file's order. */
function probabilityVoxels(length: number, file: string, host: Host): Float32Array {
  const [needed, free] = [2 * 4 * length, host.hostFreeBytes];
  if (needed > free) throw memoryError(`${file}: its probabilities`, needed, free, { file });
  return new Float32Array(length);
}

/** Rows along the slice axis, [.., .., class], into [class, D, H, W] of the RAS volume. */
function placeRows(out: Float32Array, model: LoadedModel<FinetuneConfig>, volume: Volume, breath: Breather) {
  const [d, h, w] = volume.grid.shape;
  const count = d * h * w;
  const strides = [h * w, w, 1] as const;
  const order = { D: [0, 1, 2], H: [1, 0, 2], W: [2, 0, 1] }[model.config.data.sliceAxis] as [number, number, number];
  const sizes = [d, h, w] as const;
  const classes = model.classes.length;
  return async (row: number, probabilities: Float32Array): Promise<void> => {
    const [s0, s1, s2] = order.map((a) => strides[a] as number) as [number, number, number];
    const [n1, n2] = [sizes[order[1]] as number, sizes[order[2]] as number];
    for (let i = 0; i < n1; i++) {
      for (let j = 0; j < n2; j++)
        for (let k = 0; k < classes; k++)
          out[k * count + row * s0 + i * s1 + j * s2] = probabilities[(i * n2 + j) * classes + k] as number;
      if (breath.due()) await breath.breathe();
    }
  };
}

/** The volume turned to RAS, and what writing its result needs of the first file. */
async function readSources(sources: readonly NiftiSource[], options: SegmentSourcesOptions & { signal: AbortSignal }) {
  const remedy = '--non-finite zero, in the API nonFinite: "zero", replaces them';
  const read = { nonFinite: options.nonFinite, remedy, signal: options.signal };
  const { volume, frame, warnings } = await readImages(sources, read);
  for (const words of warnings) options.onWarning?.(words);
  return { like: frame, volume, orientation: frame.orientation };
}
