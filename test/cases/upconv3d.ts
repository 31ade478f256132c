/** Cases of upconv3d. Kernel = stride. */
import * as ops from '../../src/ops/index.js';
import { finish, take, takeReal } from './build.js';
import { opCases, type Case, type Shape, type Triple } from './types.js';

interface Upconv3dCase extends Case {
  readonly x: Shape;
  readonly out: number;
  readonly stride: Triple;
  readonly bias: boolean;
}

export const cases: readonly Upconv3dCase[] = [
  { name: 'all2', x: [2, 2, 3, 5, 5], out: 3, stride: [2, 2, 2], bias: true, golden: true, gradcheck: true },
  { name: 'flat2d', x: [3, 1, 3, 4, 7], out: 17, stride: [1, 2, 2], bias: true, golden: true, gradcheck: false },
  { name: 'mixed', x: [1, 3, 2, 5, 18], out: 9, stride: [2, 1, 2], bias: false, golden: true, gradcheck: false },
  { name: 'depth', x: [1, 3, 2, 3, 3], out: 2, stride: [2, 1, 1], bias: true, golden: true, gradcheck: true },
  { name: 'none', x: [2, 2, 3, 3, 3], out: 4, stride: [1, 1, 1], bias: true, golden: true, gradcheck: true },
  { name: 'c64to32', x: [1, 2, 3, 5, 64], out: 32, stride: [2, 2, 2], bias: true, golden: false, gradcheck: false },
  { name: 'c33to20', x: [2, 3, 2, 7, 33], out: 20, stride: [2, 2, 1], bias: true, golden: false, gradcheck: false },
  { name: 'large', x: [1, 9, 14, 17, 32], out: 16, stride: [2, 2, 2], bias: true, golden: false, gradcheck: false },
];

export const upconv3d = opCases<Upconv3dCase>({
  op: 'upconv3d',
  cases,
  build(rig, c, inputs, mode) {
    const x = take(rig, inputs, 'x', c.x);
    const w = takeReal(rig, inputs, 'w', [c.x[4], c.out, ...c.stride]);
    const b = c.bias ? takeReal(rig, inputs, 'b', [c.out]) : null;
    return finish(rig, ops.upconv3d(rig.b, x, w, b), inputs, mode, { x, w, b });
  },
  timing: [
    {
      name: '2×24×32×24×32 → 16',
      x: [2, 24, 32, 24, 32],
      out: 16,
      stride: [2, 2, 2],
      bias: true,
      golden: false,
      gradcheck: false,
    },
  ],
});
