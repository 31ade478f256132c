/** What contrast among a batch's samples needs beside its views: enough of them, and their normalised positions as an input. */
import type { DataConfig, TrainConfig } from '../settings/types.js';
import { MOST_CONTRASTED } from '../settings/limits.js';
import type { NumberInput, Refuse } from './types.js';

/** `pos` [B, 3], or [B, 1] of a slice; in a file [B, 1…3]. */
export function positionInput(position: DataConfig['position']): NumberInput {
  return {
    name: 'pos',
    dtype: 'f64',
    sizes: [position === 'slice' ? 1 : 3],
    fits: { accepts: ({ length, 0: axes = 0 }) => length === 1 && axes >= 1 && axes <= 3, expected: '1…3' },
    values: (sample) => sample.position,
  };
}

/** Samples are compared within a batch: two at least, and no more than the loss holds. */
export function checkContrast({ batch }: Pick<TrainConfig, 'batch'>, refuse: Refuse): void {
  const why = 'with a single sample every pair is a positive and nothing is told apart';
  if (batch < 2) refuse('train.batch', 'at least 2 in pre-training', batch, why);
  if (batch > MOST_CONTRASTED)
    refuse('train.batch', `at most ${MOST_CONTRASTED} (samples that the contrastive loss compares)`, batch);
}
