/** Cases of fill: whole tensors and slices of channels, in each type of number. */
import { normal } from '../golden/random.js';
import { count, results } from './build.js';
import { opCases, type Case, type Shape } from './types.js';

interface FillCase extends Case {
  readonly y: Shape;
  /** Channels that are filled, from `from`; the others stay. */
  readonly channels: number;
  readonly from: number;
  readonly value: number;
  readonly dtype: 'real' | 'f64' | 'i32';
}

export const cases: readonly FillCase[] = [
  { name: 'odd', y: [2, 3, 2, 5, 7], channels: 7, from: 0, value: -1.5, dtype: 'real', golden: true, gradcheck: false },
  {
    name: 'slice',
    y: [2, 1, 3, 5, 9],
    channels: 4,
    from: 5,
    value: 0.25,
    dtype: 'real',
    golden: true,
    gradcheck: false,
  },
  {
    name: 'scalar',
    y: [1, 1, 1, 1, 1],
    channels: 1,
    from: 0,
    value: 0.1,
    dtype: 'f64',
    golden: true,
    gradcheck: false,
  },
  {
    name: 'labels',
    y: [2, 3, 4, 5, 1],
    channels: 1,
    from: 0,
    value: 255,
    dtype: 'i32',
    golden: true,
    gradcheck: false,
  },
  {
    name: 'large',
    y: [2, 11, 16, 17, 19],
    channels: 8,
    from: 8,
    value: 3,
    dtype: 'real',
    golden: false,
    gradcheck: false,
  },
];

/** y is an input that is read back: what is not filled has to stay. */
export const fill = opCases<FillCase>({
  op: 'fill',
  cases,
  build(rig, c, inputs) {
    const dtype = c.dtype === 'real' ? rig.b.activation : c.dtype;
    const y = rig.input('before', c.y, inputs('before', count(c.y)), dtype);
    const [n, d, h, w, whole] = c.y;
    const view = { of: y, offset: c.from, dense: false };
    const part = c.channels === whole ? y : rig.b.tensor('part', [n, d, h, w, c.channels], dtype, { view });
    rig.b.emit('fill_fwd', { value: c.value }, {}, { y: part });
    return results('before');
  },
  random: (c, _, next) => (c.dtype === 'i32' ? Math.floor(5 * next()) : normal(next)),
  expected: (_, __, value) => value('y'),
  tolerance: (_, kind) => (kind === 'f64' ? 0 : 1e-7),
});
