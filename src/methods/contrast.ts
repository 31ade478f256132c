/** What contrast among a batch's samples needs beside its views: enough of them, their positions, a sign of collapse. */
import type { ConfigInput, DataConfig, TrainConfig } from '../settings/types.js';
import { either, list, positive } from '../settings/json-schema.js';
import { CONTRASTED, expectedOf } from '../settings/limits.js';
import type { NumberInput, Refuse } from './types.js';
import { staysAbove, type Watchdog } from './watchdog.js';

/** Schema of `loss.threshold`. */
export const THRESHOLD = either(
  'a number above 0, or a list with one for each axis of the position',
  positive('samples closer than this on every axis are positives'),
  list(positive('threshold of an axis'), 1, 3, 'a threshold for each axis of the position'),
);

/** A list of thresholds has an entry for each axis of a position that was asked for. */
export function checkThreshold(
  {
    data,
    loss,
  }: {
    readonly data: Pick<DataConfig, 'position'>;
    readonly loss: { readonly threshold: number | readonly number[] };
  },
  input: ConfigInput,
  refuse: Refuse,
): void {
  const axes = data.position === 'slice' ? 1 : 3;
  const { threshold } = loss;
  if (typeof threshold !== 'number' && input.data?.position !== undefined && threshold.length !== axes)
    refuse('loss.threshold', `${axes} entries, because data.position is ${data.position}`, threshold);
}

/** Mean cosine of the image projections that is collapse where it stays. */
const COLLAPSE_COSINE = 0.99;
const COLLAPSE_STEPS = 50;

/** Warns where all samples look alike to the network, by the result `cosine`. */
export function alikeWatch(): Watchdog {
  return staysAbove(
    'cosine',
    COLLAPSE_COSINE,
    COLLAPSE_STEPS,
    (step) =>
      `collapse: the image projections' mean cosine has stayed above ${COLLAPSE_COSINE} for ${COLLAPSE_STEPS} steps ` +
      `(step ${step}): all samples look alike to the network. A larger batch, a smaller patch or threshold may help.`,
  );
}

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
  if (batch > CONTRASTED.most) refuse(CONTRASTED.field, expectedOf(CONTRASTED), batch);
}
