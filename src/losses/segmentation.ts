/** Losses of fine-tuning: cross-entropy, or cross-entropy + soft Dice. */
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import type { FinetuneLossConfig } from '../settings/types.js';
import { dice, softmaxce, wsum } from '../ops/index.js';

export interface SegmentationLosses {
  readonly total: Tensor;
  readonly ce: Tensor;
  readonly dice: Tensor | null;
}

/**
 * @param logits [N, D, H, W, K]
 * @param labels [N, D, H, W, 1] int32; 255 is ignored
 * @param o `background`: Dice counts class 0 too
 */
export function segmentationLosses(
  b: GraphBuilder,
  logits: Tensor,
  labels: Tensor,
  o: FinetuneLossConfig & { readonly background?: boolean },
): SegmentationLosses {
  const weights = o.classWeights ? b.constant('classWeights', o.classWeights) : null;
  const ce = b.within('loss.ce', () => softmaxce(b, logits, labels, weights));
  if (o.name === 'ce') return { total: b.within('loss', () => wsum(b, [{ weight: 1, value: ce }])), ce, dice: null };
  const overlap = b.within('loss.dice', () =>
    dice(b, logits, labels, { perSample: o.dicePer === 'sample', background: o.background ?? false }),
  );
  const total = b.within('loss', () =>
    wsum(b, [
      { weight: 1, value: ce },
      { weight: 1, value: overlap },
    ]),
  );
  return { total, ce, dice: overlap };
}
