/** Cases of scale: a float64 scalar times a number. */
import * as ops from '../../src/ops/index.js';
import { finishLoss, takeScalar } from './build.js';
import { opCases, type Case } from './types.js';

interface ScaleCase extends Case {
  readonly factor: number;
}

export const cases: readonly ScaleCase[] = [
  { name: 'negative', factor: -0.3, golden: true, gradcheck: true },
  { name: 'zero', factor: 0, golden: true, gradcheck: true },
];

export const scale = opCases<ScaleCase>({
  op: 'scale',
  cases,
  loss: true,
  build(rig, c, inputs, mode) {
    const x = takeScalar(rig, inputs, 'x');
    return finishLoss(rig, ops.scale(rig.b, x, c.factor), mode, { x });
  },
  // Scalars are float64 on every backend.
  tolerance: () => 1e-15,
});
