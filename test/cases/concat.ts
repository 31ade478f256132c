/** Cases of concat: parts that are results of the network before it, as a skip connection's are, so that it can be fused away. */
import type { Tensor } from '../../src/graph/types.js';
import * as ops from '../../src/ops/index.js';
import { finish, take } from './build.js';
import { opCases, type Case, type Shape } from './types.js';

interface ConcatCase extends Case {
  readonly a: Shape;
  /** Channels of the second part. */
  readonly more: number;
}

export const cases: readonly ConcatCase[] = [
  { name: 'odd', a: [2, 3, 2, 5, 7], more: 4, golden: true, gradcheck: true },
  { name: 'flat2d', a: [3, 1, 4, 3, 1], more: 17, golden: true, gradcheck: true },
  { name: 'equal', a: [1, 2, 3, 4, 16], more: 16, golden: true, gradcheck: false },
  { name: 'large', a: [2, 12, 13, 17, 16], more: 17, golden: false, gradcheck: false },
];

export const concat = opCases<ConcatCase>({
  op: 'concat',
  cases,
  build(rig, c, inputs, mode) {
    const [n, d, h, w] = c.a;
    const part = (name: string, shape: Shape): Tensor => {
      const t = rig.b.tensor(name, shape);
      rig.b.emit('copy_fwd', { accumulate: 0 }, { x: take(rig, inputs, name, shape) }, { y: t });
      return t;
    };
    const [a, b] = [part('a', c.a), part('b', [n, d, h, w, c.more])];
    return finish(rig, ops.concat(rig.b, a, b), inputs, mode, { a, b });
  },
  tolerance: (_, kind) => (kind === 'f64' ? 0 : 1e-7),
});
