/** What the kernels hold at most (native/kernels/supcon.h, losses_softmax.h): known here so that it is said early. */
import { MaclError } from '../errors.js';

export interface Limit {
  /** The setting that it bounds. */
  readonly field: string;
  readonly most: number;
  readonly why: string;
}

/** Samples of a pre-training batch: the contrastive loss compares both views of each, at most 512 vectors. */
export const CONTRASTED: Limit = {
  field: 'train.batch',
  most: 256,
  why: 'samples that the contrastive loss compares',
};
/** Classes of a segmentation loss, the background counted. */
export const CLASSES: Limit = {
  field: 'model.classes',
  most: 128,
  why: 'classes that the segmentation losses hold',
};

export const expectedOf = ({ most, why }: Limit): string => `at most ${most} (${why})`;

/** For operations. @throws MaclError `config` that names the field, the limit and what was found */
export function checkLimit(limit: Limit, found: number, source: string): void {
  if (found <= limit.most) return;
  const { field } = limit;
  const expected = expectedOf(limit);
  const text = `${source}: ${field}: expected ${expected}, found ${found}`;
  throw new MaclError('config', text, { field, expected, found });
}
