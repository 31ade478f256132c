/** Weights of a state folded with the norms behind them: `src/ops/conv3d-fold.ts` says which and why. */
import type { Breather } from '../breathe.js';
import { placeOf, sizeOf } from '../graph/shape.js';
import { DTYPE_BYTES, type Tensor } from '../graph/types.js';
import { viewOf } from '../graph/codec.js';
import type { StateTable } from '../nn/state.js';
import type { FoldedNorm } from '../ops/conv3d-fold.js';

/** Changes the weights and biases in place, computed in float64. */
export async function foldState(
  { offsets }: Pick<StateTable, 'offsets'>,
  state: Uint8Array,
  norms: readonly FoldedNorm[],
  breath: Breather,
): Promise<void> {
  const view = (t: Tensor) => {
    const { root, offset } = placeOf(t);
    const start = (offsets.get(root) as number) + offset * DTYPE_BYTES[t.dtype];
    return viewOf(t.dtype, state.subarray(start, start + sizeOf(t.shape) * DTYPE_BYTES[t.dtype]));
  };
  for (const { w, b, mean, var: variance, gamma, beta, eps } of norms) {
    const [weights, bias, means, variances] = [view(w), view(b), view(mean), view(variance)];
    const [scales, shifts] = [gamma && view(gamma), beta && view(beta)];
    const per = weights.length / bias.length;
    for (let o = 0; o < bias.length; o++) {
      const scale = Number(scales?.[o] ?? 1) / Math.sqrt(Number(variances[o]) + eps);
      bias[o] = scale * (Number(bias[o]) - Number(means[o])) + Number(shifts?.[o] ?? 0);
      for (let i = o * per; i < (o + 1) * per; i++) weights[i] = scale * Number(weights[i]);
      if (breath.due()) await breath.breathe();
    }
  }
}
