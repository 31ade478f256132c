/** Cases of dice: per batch and per sample, labels that are ignored, many classes. */
import * as ops from '../../src/ops/index.js';
import { normal } from '../golden/random.js';
import { finishLoss, take, takeLabels } from './build.js';
import { opCases, type Case, type Shape } from './types.js';

interface DiceCase extends Case {
  /** Logits [N, D, H, W, K]. */
  readonly x: Shape;
  readonly perSample: boolean;
  readonly background: boolean;
  /** Share of voxels with label 255; −1: the whole first sample. */
  readonly ignored: number;
}

export const cases: readonly DiceCase[] = [
  {
    name: 'plain',
    x: [2, 3, 4, 5, 3],
    perSample: false,
    background: false,
    ignored: 0,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'ignored',
    x: [2, 2, 5, 3, 4],
    perSample: false,
    background: false,
    ignored: 0.3,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'weighted',
    x: [3, 1, 4, 5, 3],
    perSample: true,
    background: false,
    ignored: 0.2,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'two',
    x: [1, 3, 2, 7, 2],
    perSample: true,
    background: false,
    ignored: 0,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'many',
    x: [2, 2, 3, 3, 17],
    perSample: true,
    background: false,
    ignored: 0.1,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'sampleIgnored',
    x: [2, 1, 3, 2, 3],
    perSample: true,
    background: false,
    ignored: -1,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'background',
    x: [2, 3, 2, 5, 5],
    perSample: false,
    background: true,
    ignored: 0.1,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'backgroundSample',
    x: [3, 2, 3, 3, 3],
    perSample: true,
    background: true,
    ignored: 0,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'large',
    x: [2, 15, 24, 33, 3],
    perSample: true,
    background: false,
    ignored: 0,
    golden: false,
    gradcheck: false,
  },
];

export const dice = opCases<DiceCase>({
  op: 'dice',
  cases,
  loss: true,
  build(rig, c, inputs, mode) {
    const [x, y] = [take(rig, inputs, 'x', c.x), takeLabels(rig, inputs, 'y', c.x)];
    return finishLoss(rig, ops.dice(rig.b, x, y, { perSample: c.perSample, background: c.background }), mode, { x });
  },
  random: (c, name, next) => (name === 'y' ? Math.floor(next() * c.x[4]) : normal(next)),
});
