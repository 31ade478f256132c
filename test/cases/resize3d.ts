/** Cases of resize3d: linear with aligned corners. */
import * as ops from '../../src/ops/index.js';
import { finish, take } from './build.js';
import { opCases, type Case, type Shape, type Triple } from './types.js';

interface Resize3dCase extends Case {
  readonly x: Shape;
  readonly to: Triple;
}

export const cases: readonly Resize3dCase[] = [
  { name: 'quarter', x: [2, 8, 4, 12, 3], to: [2, 1, 3], golden: true, gradcheck: false },
  { name: 'odd', x: [2, 5, 7, 6, 5], to: [3, 4, 5], golden: true, gradcheck: true },
  { name: 'twoToOne', x: [1, 2, 4, 2, 17], to: [1, 2, 1], golden: true, gradcheck: true },
  { name: 'flat2d', x: [3, 1, 9, 6, 4], to: [1, 3, 2], golden: true, gradcheck: true },
  { name: 'up', x: [1, 2, 3, 1, 3], to: [5, 4, 3], golden: true, gradcheck: true },
  { name: 'same', x: [1, 3, 2, 5, 3], to: [3, 2, 5], golden: true, gradcheck: true },
  { name: 'large', x: [2, 24, 16, 32, 3], to: [12, 8, 16], golden: false, gradcheck: false },
  { name: 'largeQuarter2d', x: [3, 1, 64, 96, 1], to: [1, 16, 24], golden: false, gradcheck: false },
];

export const resize3d = opCases<Resize3dCase>({
  op: 'resize3d',
  cases,
  build(rig, c, inputs, mode) {
    const x = take(rig, inputs, 'x', c.x);
    let y = ops.resize3d(rig.b, x, c.to);
    if (y === x) {
      // The op leaves equal sizes out; the kernel has to copy them all the same.
      y = rig.b.tensor('resize', x.shape);
      rig.b.emit('resize3d_fwd', { accumulate: 0 }, { x }, { y });
    }
    return finish(rig, y, inputs, mode, { x });
  },
});
