/** Cases of l1. */
import * as ops from '../../src/ops/index.js';
import { finishLoss, take } from './build.js';
import { opCases, type Case, type Shape } from './types.js';

interface L1Case extends Case {
  readonly x: Shape;
  readonly relative: boolean;
}

export const cases: readonly L1Case[] = [
  { name: 'odd', x: [2, 3, 2, 5, 7], relative: false, golden: true, gradcheck: true },
  { name: 'flat2d', x: [3, 1, 4, 5, 16], relative: false, golden: true, gradcheck: false },
  { name: 'relative', x: [2, 1, 3, 3, 5], relative: true, golden: true, gradcheck: true },
  { name: 'large', x: [2, 9, 16, 17, 32], relative: false, golden: false, gradcheck: false },
];

export const l1 = opCases<L1Case>({
  op: 'l1',
  cases,
  loss: true,
  build(rig, c, inputs, mode) {
    const [a, b] = [take(rig, inputs, 'a', c.x), take(rig, inputs, 'b', c.x)];
    const { loss, meansq } = ops.l1(rig.b, a, b, c.relative);
    rig.result('meansq', meansq);
    return finishLoss(rig, loss, mode, { a, b }, ['meansq']);
  },
});
