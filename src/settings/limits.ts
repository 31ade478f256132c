/** What the kernels hold at most (native/kernels/supcon.h, losses_softmax.h): known here so that it is said early. */
import { MaclError } from '../errors.js';

/** Samples of a pre-training step: the contrastive loss compares both views of each, at most 512 vectors. */
export const MOST_CONTRASTED = 256;
/** Classes of a segmentation loss, the background counted. */
export const MOST_CLASSES = 128;

/** @throws MaclError `config` that names the field, the limit and what was found */
function checkMost(field: string, most: number, why: string, found: number, source?: string): void {
  if (found <= most) return;
  const expected = `at most ${most} (${why})`;
  const text = `${source === undefined ? '' : `${source}: `}${field}: expected ${expected}, found ${found}`;
  throw new MaclError('config', text, { field, expected, found });
}

/** @throws MaclError `config` */
export const checkContrasted = (batch: number, source?: string): void =>
  checkMost('train.batch', MOST_CONTRASTED, 'samples that the contrastive loss compares', batch, source);

/** @throws MaclError `config` */
export const checkClasses = (classes: number, source?: string): void =>
  checkMost('model.classes', MOST_CLASSES, 'classes that the segmentation losses hold', classes, source);
