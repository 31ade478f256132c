/** Cases of boxmix: images of several channels, flat, slices' sizes; boxes overlap, touch and leave the grid, hold nothing. */
import * as ops from '../../src/ops/index.js';
import { count, pad, results, take } from './build.js';
import { normal } from '../golden/random.js';
import { opCases, type Case, type Shape } from './types.js';

interface BoxmixCase extends Case {
  readonly x: Shape;
  readonly boxes: number;
  readonly levels: number;
}

export const cases: readonly BoxmixCase[] = [
  { name: 'one', x: [2, 5, 7, 6, 1], boxes: 6, levels: 4, golden: true, gradcheck: false },
  { name: 'channels', x: [1, 4, 3, 9, 3], boxes: 12, levels: 4, golden: true, gradcheck: false },
  { name: 'flat2d', x: [3, 1, 9, 8, 2], boxes: 3, levels: 1, golden: true, gradcheck: false },
  { name: 'wide', x: [2, 3, 4, 5, 17], boxes: 1, levels: 7, golden: true, gradcheck: false },
  { name: 'large', x: [2, 24, 16, 33, 2], boxes: 40, levels: 4, golden: false, gradcheck: false },
];

export const boxmix = opCases<BoxmixCase>({
  op: 'boxmix',
  cases,
  build(rig, c, inputs) {
    const [f, second] = [take(rig, inputs, 'f', c.x), take(rig, inputs, 'b', c.x)];
    const shape = pad([c.x[0], c.boxes, ops.BOX_WORDS]);
    const boxes = rig.input('boxes', shape, inputs('boxes', count(shape)), 'i32');
    const { x, labels } = ops.boxmix(rig.b, f, second, boxes, c.levels);
    rig.result('mixed', x);
    rig.result('labels', labels);
    return results('mixed', 'labels');
  },
  // Levels from 0 on, sizes and starts of some voxels: whole numbers of any place in a row of seven.
  random: (c, name, next) => (name === 'boxes' ? Math.floor(next() * (c.levels + 1)) : normal(next)),
});
