/** Metrics of a folder of predictions. The text table of a document is `evaluationTable`. */
import { evaluateFolders } from '../train/evaluate-files.js';
import type { EvaluateOptions, EvaluateSummary } from './types.js';

/** @throws MaclError: `file`, `geometry`, `label`, `dataset`, `aborted` */
export async function evaluate(options: EvaluateOptions): Promise<EvaluateSummary> {
  const { pred, labels, against, signal, onEvent } = options;
  const { document, notes } = await evaluateFolders({
    pred,
    labels,
    ...(against === undefined ? {} : { against }),
    ...(signal ? { signal } : {}),
    onProgress: (done, total, id) => onEvent?.({ kind: 'evaluate', done, total, id }),
  });
  for (const message of notes) onEvent?.({ kind: 'note', message });
  return document;
}
