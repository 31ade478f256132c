/** Cases of add: a residual, or the gradients of a tensor that several read, where the sum lies in the first of them. */
import * as ops from '../../src/ops/index.js';
import { finish, results, take } from './build.js';
import { opCases, type Case, type Shape } from './types.js';

interface AddCase extends Case {
  readonly x: Shape;
  /** Whether the result lies where the first summand lay. */
  readonly inPlace: boolean;
}

export const cases: readonly AddCase[] = [
  { name: 'odd', x: [2, 3, 2, 5, 7], inPlace: false, golden: true, gradcheck: true },
  { name: 'inPlace', x: [1, 3, 1, 4, 17], inPlace: true, golden: true, gradcheck: false },
  { name: 'large', x: [2, 11, 16, 17, 19], inPlace: false, golden: false, gradcheck: false },
];

export const add = opCases<AddCase>({
  op: 'add',
  cases,
  build(rig, c, inputs, mode) {
    const [a, b] = [take(rig, inputs, 'a', c.x), take(rig, inputs, 'b', c.x)];
    if (!c.inPlace) return finish(rig, ops.add(rig.b, a, b), inputs, mode, { a, b });
    rig.b.emit('add_fwd', { unused: 0 }, { a, b }, { y: a });
    return results('a');
  },
  expected: (_, __, value) => value('y'),
  tolerance: (_, kind) => (kind === 'f64' ? 0 : 1e-7),
});
