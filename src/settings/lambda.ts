/** λ, the scale at which MACL's dominant branch sees a patch: arithmetic on a network's strides. */
import { mapTriple } from './fingerprint.js';
import type { ModelConfig, Triple } from './types.js';

/** λ of each axis: 1 / the product of the deepest n strides. */
export function lambdaOf(model: Pick<ModelConfig, 'strides' | 'levels' | 'decoderBlocks'>): Triple {
  const deepest = model.strides.slice(model.levels - model.decoderBlocks);
  return mapTriple((axis) => 1 / deepest.reduce((p, s) => p * s[axis], 1));
}
