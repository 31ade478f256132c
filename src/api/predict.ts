/** `predict`: files in, files out. */
import { Breather } from '../breathe.js';
import { checkOptions, type OptionKinds } from '../options.js';
import { loadSegmentModel } from '../model/model-file.js';
import {
  predictFiles,
  PREDICT_FILES_OPTIONS,
  type PredictedFile,
  type PredictFilesOptions,
} from '../predict/predict.js';
import { MACHINE_OPTIONS, openMachine, type MachineOptions } from '../backend/machine.js';

export interface PredictOptions extends MachineOptions, PredictFilesOptions {
  /** A fine-tuned run's folder, or its model file; of several the mean is taken. An unfinished run's newest checkpoint. */
  readonly model: string | readonly string[];
}

const OPTIONS: OptionKinds<PredictOptions> = { ...MACHINE_OPTIONS, ...PREDICT_FILES_OPTIONS, model: 'text or list' };

/** The models of one or several paths. */
export async function loadModels(model: string | readonly string[], onNote?: (message: string) => void) {
  const models = [];
  const breath = new Breather();
  for (const path of typeof model === 'string' ? [model] : model) {
    models.push(await loadSegmentModel(path, onNote));
    await breath.breathe();
  }
  return models;
}

/** Segments a file or a folder; one label volume a case, on the input's own grid. @returns the results' files */
export async function predict(options: PredictOptions): Promise<PredictedFile[]> {
  checkOptions('predict', options, OPTIONS, ['model', 'input', 'out']);
  const models = await loadModels(options.model, options.onNote);
  const backend = await openMachine(options, options.onNote);
  try {
    return await predictFiles(models, backend, options);
  } finally {
    await backend.close();
  }
}
