/**
 * Cases of supcon (one position: the image-level loss) and densesupcon (several). z1 (dominant) and z2 (auxiliary) are
 * [B, D, H, W, C]; `threshold` has one number an axis of the positions, pos [B, P]; P is its length.
 */
import * as ops from '../../src/ops/index.js';
import { normal } from '../golden/random.js';
import { count, finishLoss, take } from './build.js';
import { opCases, type Case, type Shape } from './types.js';

interface SupconCase extends Case {
  readonly z: Shape;
  readonly tau: number;
  readonly threshold: readonly number[];
  readonly scale: number;
}

export const cases: readonly SupconCase[] = [
  { name: 'image', z: [4, 1, 1, 1, 128], tau: 0.1, threshold: [0.3], scale: 1, golden: true, gradcheck: false },
  { name: 'pair', z: [2, 1, 1, 1, 5], tau: 0.1, threshold: [0.1, 0.1, 0.1], scale: 1, golden: true, gradcheck: true },
  { name: 'all', z: [3, 1, 1, 1, 7], tau: 0.2, threshold: [2], scale: 1, golden: true, gradcheck: true },
  { name: 'dense', z: [3, 2, 3, 5, 9], tau: 0.1, threshold: [0.5, 0.6, 0.7], scale: 1, golden: true, gradcheck: true },
  { name: 'dense2d', z: [5, 1, 4, 3, 17], tau: 0.07, threshold: [0.25], scale: 1, golden: true, gradcheck: false },
  { name: 'scaled', z: [3, 1, 2, 2, 6], tau: 0.5, threshold: [0.4, 0.4], scale: 1.5, golden: true, gradcheck: true },
  { name: 'batch16', z: [16, 1, 1, 1, 128], tau: 0.1, threshold: [0.1], scale: 1, golden: false, gradcheck: false },
  {
    name: 'denseLarge',
    z: [8, 4, 8, 9, 64],
    tau: 0.1,
    threshold: [0.4, 0.4, 0.4],
    scale: 1,
    golden: false,
    gradcheck: false,
  },
];

export const supcon = opCases<SupconCase>({
  op: 'supcon',
  cases,
  loss: true,
  build(rig, c, inputs, mode) {
    const [z1, z2] = [take(rig, inputs, 'z1', c.z), take(rig, inputs, 'z2', c.z)];
    const n = c.z[0] * c.threshold.length;
    const pos = rig.input('pos', [c.z[0], c.threshold.length, 1, 1, 1], inputs('pos', n), 'f64');
    const op = count(c.z.slice(1, 4)) === 1 ? ops.supcon : ops.densesupcon;
    const options = { temperature: c.tau, threshold: c.threshold, scale: c.scale };
    const { loss, cosine } = op(rig.b, z1, z2, pos, options);
    rig.result('cosine', cosine);
    return finishLoss(rig, loss, mode, { z1, z2 }, ['cosine']);
  },
  random: (_, name, next) => (name === 'pos' ? 0.2 + 0.8 * next() : normal(next)),
  timing: [
    {
      name: '16×8×16×8×128',
      z: [16, 8, 16, 8, 128],
      tau: 0.1,
      threshold: [0.1, 0.1, 0.1],
      scale: 1,
      golden: false,
      gradcheck: false,
    },
  ],
});
