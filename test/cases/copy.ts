/** Cases of copy: whole tensors and slices of channels on either side, written or added, in each type of number. */
import type { Tensor } from '../../src/graph/types.js';
import { normal } from '../golden/random.js';
import { count, finish, results } from './build.js';
import { opCases, type Case, type Shape } from './types.js';

interface CopyCase extends Case {
  readonly x: Shape;
  /** What is copied: `channels` of x from `from`, into y's channels from `to`. */
  readonly from: number;
  readonly channels: number;
  /** Channels of y, and where the copy begins in them. */
  readonly of: number;
  readonly to: number;
  readonly accumulate: boolean;
  readonly labels: boolean;
}

export const cases: readonly CopyCase[] = [
  {
    name: 'whole',
    x: [2, 3, 2, 5, 7],
    from: 0,
    channels: 7,
    of: 7,
    to: 0,
    accumulate: false,
    labels: false,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'slice',
    x: [2, 1, 3, 5, 9],
    from: 4,
    channels: 5,
    of: 5,
    to: 0,
    accumulate: false,
    labels: false,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'intoSlice',
    x: [1, 3, 2, 4, 3],
    from: 1,
    channels: 2,
    of: 20,
    to: 17,
    accumulate: false,
    labels: false,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'added',
    x: [2, 3, 1, 5, 18],
    from: 1,
    channels: 16,
    of: 17,
    to: 1,
    accumulate: true,
    labels: false,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'labels',
    x: [2, 3, 4, 5, 1],
    from: 0,
    channels: 1,
    of: 1,
    to: 0,
    accumulate: false,
    labels: true,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'large',
    x: [2, 13, 16, 17, 24],
    from: 8,
    channels: 16,
    of: 32,
    to: 16,
    accumulate: true,
    labels: false,
    golden: false,
    gradcheck: false,
  },
];

/** Parts go into an input that is read back: what the copy leaves alone has to stay. */
export const copy = opCases<CopyCase>({
  op: 'copy',
  cases,
  build(rig, c, inputs, mode) {
    const [n, d, h, w, channels] = c.x;
    const dtype = c.labels ? 'i32' : rig.b.activation;
    const whole: Shape = [n, d, h, w, c.of];
    const x = rig.input('x', c.x, inputs('x', count(c.x)), dtype);
    if (channels === c.of && !c.labels) {
      const y = rig.b.tensor('copy', whole);
      rig.b.emit('copy_fwd', { accumulate: 0 }, { x }, { y });
      return finish(rig, y, inputs, mode, { x });
    }
    const y = rig.input('before', whole, inputs('before', count(whole)), dtype);
    const part: Shape = [n, d, h, w, c.channels];
    const slice = (of: Tensor, offset: number) =>
      of.shape[4] === c.channels ? of : rig.b.tensor('slice', part, dtype, { view: { of, offset, dense: false } });
    rig.b.emit('copy_fwd', { accumulate: c.accumulate ? 1 : 0 }, { x: slice(x, c.from) }, { y: slice(y, c.to) });
    return results('before');
  },
  expected: (_, name, value) => value(name === 'before' ? 'y' : name),
  random: (c, _, next) => (c.labels ? Math.floor(5 * next()) : normal(next)),
  tolerance: (_, kind) => (kind === 'f64' ? 0 : 1e-7),
});
