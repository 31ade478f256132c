/** Cases of softmaxce: labels that are ignored, class weights, many classes. */
import * as ops from '../../src/ops/index.js';
import { normal } from '../golden/random.js';
import { finishLoss, pad, take, takeLabels } from './build.js';
import { opCases, type Case, type Shape } from './types.js';

interface SoftmaxceCase extends Case {
  /** Logits [N, D, H, W, K]. */
  readonly x: Shape;
  readonly classWeights: readonly number[] | null;
  /** Share of voxels with label 255; −1: the whole first sample. */
  readonly ignored: number;
}

export const cases: readonly SoftmaxceCase[] = [
  {
    name: 'plain',
    x: [2, 3, 4, 5, 3],
    classWeights: null,
    ignored: 0,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'ignored',
    x: [2, 2, 5, 3, 4],
    classWeights: null,
    ignored: 0.3,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'weighted',
    x: [3, 1, 4, 5, 3],
    classWeights: [0.2, 1.5, 3],
    ignored: 0.2,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'two',
    x: [1, 3, 2, 7, 2],
    classWeights: [1, 0.5],
    ignored: 0,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'many',
    x: [2, 2, 3, 3, 17],
    classWeights: null,
    ignored: 0.1,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'sampleIgnored',
    x: [2, 1, 3, 2, 3],
    classWeights: null,
    ignored: -1,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'large',
    x: [2, 15, 24, 33, 3],
    classWeights: null,
    ignored: 0,
    golden: false,
    gradcheck: false,
  },
];

export const softmaxce = opCases<SoftmaxceCase>({
  op: 'softmaxce',
  cases,
  loss: true,
  build(rig, c, inputs, mode) {
    const [x, y] = [take(rig, inputs, 'x', c.x), takeLabels(rig, inputs, 'y', c.x)];
    const cw = c.classWeights ? rig.input('cw', pad([c.x[4]]), c.classWeights, 'f64') : null;
    return finishLoss(rig, ops.softmaxce(rig.b, x, y, cw), mode, { x });
  },
  random: (c, name, next) => (name === 'y' ? Math.floor(next() * c.x[4]) : normal(next)),
  timing: [
    { name: '2×48×64×48×3', x: [2, 48, 64, 48, 3], classWeights: null, ignored: 0, golden: false, gradcheck: false },
  ],
});
