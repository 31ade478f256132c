/** Cases of round: numbers of every size, of few bits (ties) and of many, in place and between slices of channels. */
import type { Tensor } from '../../src/graph/types.js';
import { DTYPES } from '../../src/graph/types.js';
import { normal } from '../golden/random.js';
import { count, results } from './build.js';
import { opCases, type Case, type Shape } from './types.js';

interface RoundCase extends Case {
  readonly x: Shape;
  /** What is rounded: `channels` of x from `from`. */
  readonly from: number;
  readonly channels: number;
  readonly inPlace: boolean;
  /** Powers of two that numbers span, around 1; 0: multiples of 2^-9 below 4, of which many are ties. */
  readonly span: number;
}

export const cases: readonly RoundCase[] = [
  { name: 'whole', x: [2, 3, 2, 5, 7], from: 0, channels: 7, inPlace: false, span: 8, golden: true, gradcheck: false },
  { name: 'ties', x: [1, 4, 3, 5, 8], from: 0, channels: 8, inPlace: false, span: 0, golden: true, gradcheck: false },
  { name: 'sizes', x: [1, 2, 7, 9, 4], from: 0, channels: 4, inPlace: true, span: 250, golden: true, gradcheck: false },
  { name: 'slice', x: [2, 1, 3, 5, 9], from: 4, channels: 5, inPlace: true, span: 8, golden: true, gradcheck: false },
  {
    name: 'large',
    x: [2, 5, 16, 7, 20],
    from: 4,
    channels: 16,
    inPlace: true,
    span: 8,
    golden: false,
    gradcheck: false,
  },
];

/** x is an input that is read back: what the rounding leaves alone has to stay. */
export const round = opCases<RoundCase>({
  op: 'round',
  cases,
  build(rig, c, inputs) {
    const x = rig.input('x', c.x, inputs('x', count(c.x)), rig.b.real);
    const [n, d, h, w, channels] = c.x;
    const part = (of: Tensor): Tensor => {
      const view = { of, offset: c.from, dense: false };
      return c.channels === channels ? of : rig.b.tensor('slice', [n, d, h, w, c.channels], of.dtype, { view });
    };
    const to = c.inPlace ? x : rig.result('y', rig.b.tensor('round', c.x, rig.b.real));
    rig.b.emit('round_fwd', { dtype: DTYPES.bf16 }, { x: part(x) }, { y: part(to) });
    return results(c.inPlace ? 'x' : 'y');
  },
  expected: (_, __, value) => value('y'),
  // Numbers of float32, so that every backend rounds the same ones.
  random: (c, _, next) => Math.fround(normal(next) * 2 ** Math.round(c.span * (next() - 0.5))),
  tolerance: () => 0,
});
