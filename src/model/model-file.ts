/** `model.safetensors`, read: a file, the folder of a run, or the newest checkpoint of one that is not finished. */
import { stat } from 'node:fs/promises';
import { join } from 'node:path';
import type { FinetuneConfig } from '../settings/types.js';
import { asFileError, readSafetensorsFile, systemCode } from '../data/files.js';
import type { Safetensors } from '../data/safetensors.js';
import { MaclError } from '../errors.js';
import { describeModel, type LoadedModel } from './description.js';
import { checkWeights } from './network-state.js';
import { newestCheckpoint } from './newest-checkpoint.js';

const MODEL_NAME = 'model.safetensors';

interface Found {
  readonly file: string;
  readonly contents: Safetensors;
  /** Set where it is a checkpoint of a run that is not finished. */
  readonly step?: number;
}

/** A model file, a finished run's model, or the newest checkpoint of one that is not finished. */
async function readModel(path: string, onNote: (message: string) => void): Promise<Found> {
  const info = await stat(path).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT')
      throw new MaclError('file', `${path}: no such file or folder`, { file: path }, { cause: error });
    throw asFileError(error, path, 'read');
  });
  if (!info.isDirectory()) return { file: path, contents: await readSafetensorsFile(path) };
  const file = join(path, MODEL_NAME);
  const there = await stat(file).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return null;
    throw asFileError(error, file, 'read');
  });
  if (there) return { file, contents: await readSafetensorsFile(file) };
  const newest = await newestCheckpoint(path, (e) => onNote(`passed over a damaged checkpoint: ${e.message}`));
  if (!newest)
    throw new MaclError(
      'file',
      `${path}: has neither ${MODEL_NAME} nor a whole checkpoint: it is no run that came so far`,
      { file },
    );
  return newest;
}

/**
 * @param path a run's folder, or a model file. Of a run that is not finished the newest checkpoint is taken.
 * @throws MaclError `file`, or `weights` where a value cannot be one
 */
export async function loadModel(
  path: string,
  onNote: (message: string) => void = () => undefined,
): Promise<LoadedModel> {
  const { file, contents, step } = await readModel(path, onNote);
  const model = describeModel(contents.metadata, file);
  if (step !== undefined)
    onNote(`${path}: the run is not finished: its weights after step ${step} of ${model.config.train.steps} are taken`);
  // A checkpoint holds the optimiser too.
  const tensors = new Map([...contents.tensors].filter(([name]) => !name.startsWith('optimizer.')));
  await checkWeights(tensors, file);
  return { file, tensors, ...model };
}

export async function loadSegmentModel(
  path: string,
  onNote?: (message: string) => void,
): Promise<LoadedModel<FinetuneConfig>> {
  const model = await loadModel(path, onNote);
  if (model.config.task !== 'finetune')
    throw new MaclError(
      'weights',
      `${model.file}: is a pre-trained network without a segmentation head: fine-tune it first`,
      { file: model.file },
    );
  return model as LoadedModel<FinetuneConfig>;
}
