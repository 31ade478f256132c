/** Segments volumes from files: opens model and device, runs, closes. For typed arrays see `Predictor`. */
import { loadSegmentModel } from '../train/model-file.js';
import { predictFiles } from '../train/predict.js';
import { openMachine } from '../train/trainer.js';
import type { PredictOptions, PredictSummary } from './types.js';

/** @throws MaclError: `file`, `weights`, `device`, `memory`, `aborted`, … */
export async function predict(options: PredictOptions): Promise<PredictSummary> {
  const { onEvent } = options;
  const model = await loadSegmentModel(options.model);
  const backend = await openMachine(options);
  try {
    const files = await predictFiles(model, backend, {
      input: options.input,
      out: options.out,
      mirror: options.mirror ?? false,
      probabilities: options.probabilities ?? false,
      nonFinite: model.config.data.nonFinite,
      signal: options.signal,
      onCase: (event) => onEvent?.({ kind: 'predict', ...event }),
      onNote: (message) => onEvent?.({ kind: 'note', message }),
    });
    return { files };
  } finally {
    await backend.close();
  }
}
