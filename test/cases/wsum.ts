/** Cases of wsum: one to four float64 scalars. Their gradients are scale's. */
import * as ops from '../../src/ops/index.js';
import { finishLoss, takeScalar } from './build.js';
import { opCases, type Case } from './types.js';

interface WsumCase extends Case {
  readonly weights: readonly number[];
}

export const cases: readonly WsumCase[] = [
  { name: 'one', weights: [0.7], golden: true, gradcheck: true },
  { name: 'three', weights: [1, 0.5, -2], golden: true, gradcheck: true },
  { name: 'four', weights: [0, 0.1, 3, 1e-3], golden: true, gradcheck: true },
];

export const wsum = opCases<WsumCase>({
  op: 'wsum',
  cases,
  loss: true,
  build(rig, c, inputs, mode) {
    const terms = c.weights.map((weight, i) => ({ weight, value: takeScalar(rig, inputs, `s${i}`) }));
    const targets = Object.fromEntries(terms.map((t, i) => [`s${i}`, t.value]));
    return finishLoss(rig, ops.wsum(rig.b, terms), mode, targets);
  },
  // Scalars are float64 on every backend.
  tolerance: () => 1e-15,
});
