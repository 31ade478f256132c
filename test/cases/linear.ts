/** Cases of linear: x [N, I], w [O, I]. */
import * as ops from '../../src/ops/index.js';
import { finish, takeReal } from './build.js';
import { opCases, type Case } from './types.js';

interface LinearCase extends Case {
  readonly n: number;
  readonly inputs: number;
  readonly out: number;
  readonly bias: boolean;
}

export const cases: readonly LinearCase[] = [
  { name: 'odd', n: 3, inputs: 13, out: 7, bias: true, golden: true, gradcheck: true },
  { name: 'projector', n: 2, inputs: 20, out: 128, bias: true, golden: true, gradcheck: false },
  { name: 'wide', n: 5, inputs: 33, out: 18, bias: false, golden: true, gradcheck: true },
  { name: 'large', n: 16, inputs: 256, out: 128, bias: true, golden: false, gradcheck: false },
];

export const linear = opCases<LinearCase>({
  op: 'linear',
  cases,
  build(rig, c, inputs, mode) {
    const x = rig.input('x', [c.n, 1, 1, 1, c.inputs], inputs('x', c.n * c.inputs));
    const w = takeReal(rig, inputs, 'w', [c.out, c.inputs]);
    const b = c.bias ? takeReal(rig, inputs, 'b', [c.out]) : null;
    return finish(rig, ops.linear(rig.b, x, w, b), inputs, mode, { x, w, b });
  },
});
