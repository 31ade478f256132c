/** Cases of maxpool3d: kernel = stride, floor sizes. */
import * as ops from '../../src/ops/index.js';
import { finish, take } from './build.js';
import { opCases, type Case, type Shape, type Triple } from './types.js';

interface PoolCase extends Case {
  readonly x: Shape;
  readonly stride: Triple;
}

export const cases: readonly PoolCase[] = [
  { name: 'odd', x: [2, 3, 5, 7, 5], stride: [2, 2, 2], golden: true, gradcheck: true },
  { name: 'flat2d', x: [2, 1, 4, 6, 17], stride: [1, 2, 2], golden: true, gradcheck: false },
  { name: 'mixed', x: [1, 4, 3, 5, 8], stride: [2, 1, 2], golden: true, gradcheck: true },
  { name: 'ties', x: [1, 2, 4, 4, 3], stride: [2, 2, 2], golden: true, gradcheck: false },
  { name: 'none', x: [1, 2, 3, 2, 3], stride: [1, 1, 1], golden: true, gradcheck: true },
  { name: 'large', x: [2, 13, 22, 19, 16], stride: [2, 2, 2], golden: false, gradcheck: false },
];

export const maxpool3d = opCases<PoolCase>({
  op: 'maxpool3d',
  cases,
  build(rig, c, inputs, mode) {
    const x = take(rig, inputs, 'x', c.x);
    return finish(rig, ops.maxpool3d(rig.b, x, c.stride), inputs, mode, { x });
  },
});
