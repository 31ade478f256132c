/** `macl predict`: files or a folder in, label volumes on their own grids out. */
import { join } from 'node:path';
import { freeBytes } from '../backend/limits-node.js';
import type { Backend } from '../backend/types.js';
import { makeFolder } from '../data/files.js';
import { readImages } from '../data/case-io.js';
import { badCasesError } from '../data/prepare.js';
import { fromRas, orientationOf, readNifti, readNiftiFrame, toRas, writeNifti } from '../data/nifti.js';
import type { Volume } from '../data/volume.js';
import { MaclError, memoryError } from '../errors.js';
import type { LoadedModel } from './model-file.js';
import { listCases, mustNotReplaceInputs, NIFTI, PROBABILITIES, type PredictCase } from './predict-cases.js';
import type { FinetuneConfig } from '../config/types.js';
import { labelValues, Predictor } from './predictor.js';

export interface PredictFilesOptions {
  readonly input: string;
  readonly out: string;
  readonly mirror: boolean;
  readonly probabilities: boolean;
  readonly nonFinite: 'refuse' | 'zero';
  readonly signal?: AbortSignal | undefined;
  onCase?(event: { id: string; index: number; total: number; done: number; tiles: number }): void;
  onNote?(message: string): void;
}

/**
 * Segments every case and writes `OUT/<name>`. A case that cannot be read or segmented does not stop the others: it is told
 * to `onNote`, and all of them are in the error at the end. @returns the files written
 */
export async function predictFiles(
  model: LoadedModel<FinetuneConfig>,
  backend: Backend,
  options: PredictFilesOptions,
): Promise<{ id: string; file: string }[]> {
  const cases = await listCases(options.input, model.config.model.inChannels, options.onNote ?? (() => undefined));
  await makeFolder(options.out);
  await mustNotReplaceInputs(cases, options.out);
  const predictor = await Predictor.open(model, backend);
  const written: { id: string; file: string }[] = [];
  const bad: { id: string; error: MaclError }[] = [];
  try {
    for (const [index, item] of cases.entries()) {
      const file = join(options.out, item.output);
      try {
        if (item.problem) throw item.problem;
        await predictCase(predictor, item, file, options, (done, tiles) =>
          options.onCase?.({ id: item.id, index, total: cases.length, done, tiles }),
        );
        written.push({ id: item.id, file });
      } catch (error) {
        // What is wrong with one input says nothing of the next; a full disk does.
        if (!(error instanceof MaclError) || !item.files.includes(error.details.file ?? '')) throw error;
        if (cases.length === 1) throw error;
        bad.push({ id: item.id, error });
        options.onNote?.(`left out ${item.id}: ${error.message}`);
      }
    }
  } finally {
    await predictor.close();
  }
  if (bad.length > 0)
    throw badCasesError(options.input, bad, cases.length, 'could not be segmented, the others are written');
  return written;
}

async function predictCase(
  predictor: Predictor,
  item: PredictCase,
  file: string,
  options: PredictFilesOptions,
  onProgress: (done: number, tiles: number) => void,
): Promise<void> {
  const { signal } = options;
  const { model } = predictor;
  const abort = signal ? { signal } : {};
  const { header, extensions, volume, orientation } = await readVolume(item, options);
  const { classes } = model;
  const count = volume.grid.shape[0] * volume.grid.shape[1] * volume.grid.shape[2];
  const probabilities = options.probabilities ? probabilityVoxels(count * classes.length, file) : null;
  const labels = await predictor.segment(volume, {
    name: item.files[0] as string,
    mirror: options.mirror,
    signal,
    onWarning: options.onNote,
    onProgress,
    onProbabilities: probabilities ? placeRows(probabilities, model, volume) : undefined,
  });
  const values = labelValues(
    labels,
    classes.map((c) => c.value),
  );
  const voxels = await fromRas(values, orientation, 1, signal);
  await writeNifti(file, { like: { header, extensions }, voxels, ...abort });
  if (probabilities) {
    const turned = await fromRas(probabilities, orientation, classes.length, signal);
    const name = file.replace(NIFTI, `${PROBABILITIES}$&`);
    await writeNifti(name, { like: { header, extensions }, voxels: turned, channels: classes.length, ...abort });
  }
}

/** Two of these are held at once: as they are made, and turned to the file's order. */
function probabilityVoxels(length: number, file: string): Float32Array {
  const [needed, free] = [2 * 4 * length, freeBytes()];
  if (needed > free) throw memoryError(`${file}: its probabilities`, needed, free, { file });
  return new Float32Array(length);
}

/** Rows along the slice axis, [.., .., class], into [class, D, H, W] of the RAS volume. */
function placeRows(out: Float32Array, model: LoadedModel<FinetuneConfig>, volume: Volume) {
  const [d, h, w] = volume.grid.shape;
  const count = d * h * w;
  const strides = [h * w, w, 1] as const;
  const order = { D: [0, 1, 2], H: [1, 0, 2], W: [2, 0, 1] }[model.config.data.sliceAxis] as [number, number, number];
  const sizes = [d, h, w] as const;
  const classes = model.classes.length;
  return (row: number, probabilities: Float32Array): void => {
    const [s0, s1, s2] = order.map((a) => strides[a] as number) as [number, number, number];
    const [n1, n2] = [sizes[order[1]] as number, sizes[order[2]] as number];
    for (let i = 0; i < n1; i++)
      for (let j = 0; j < n2; j++)
        for (let k = 0; k < classes; k++)
          out[k * count + row * s0 + i * s1 + j * s2] = probabilities[(i * n2 + j) * classes + k] as number;
  };
}

/** The case's volume turned to RAS, and what writing its result needs of the first file; raw voxels are let go. */
async function readVolume(item: PredictCase, options: PredictFilesOptions) {
  const read = { nonFinite: options.nonFinite, ...(options.signal ? { signal: options.signal } : {}) };
  const first = item.files[0] as string;
  if (item.files.length > 1) {
    const { volume, warnings } = await readImages(item.files, read);
    for (const words of warnings) options.onNote?.(words);
    const { header, extensions } = await readNiftiFrame(first, read);
    return { header, extensions, volume, orientation: orientationOf(header.shape, header.affine) };
  }
  const image = await readNifti(first, read);
  for (const words of image.warnings) options.onNote?.(`${first}: ${words}`);
  const { volume, orientation } = await toRas(image, read);
  return { header: image.header, extensions: image.extensions, volume, orientation };
}
