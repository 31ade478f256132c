/** Cases of avgpool: the mean over the whole grid. */
import * as ops from '../../src/ops/index.js';
import { finish, take } from './build.js';
import { opCases, type Case, type Shape } from './types.js';

interface AvgpoolCase extends Case {
  readonly x: Shape;
}

export const cases: readonly AvgpoolCase[] = [
  { name: 'odd', x: [2, 3, 5, 7, 5], golden: true, gradcheck: true },
  { name: 'flat2d', x: [2, 1, 4, 6, 17], golden: true, gradcheck: false },
  { name: 'mixed', x: [1, 4, 3, 5, 8], golden: true, gradcheck: true },
  { name: 'ties', x: [1, 2, 4, 4, 3], golden: true, gradcheck: false },
  { name: 'none', x: [1, 2, 3, 2, 3], golden: true, gradcheck: true },
  { name: 'large', x: [2, 13, 22, 19, 16], golden: false, gradcheck: false },
];

export const avgpool = opCases<AvgpoolCase>({
  op: 'avgpool',
  cases,
  build(rig, c, inputs, mode) {
    const x = take(rig, inputs, 'x', c.x);
    return finish(rig, ops.avgpool(rig.b, x), inputs, mode, { x });
  },
});
