/** Cases of scale: a float64 scalar times a number. */
import { results, takeScalar } from './build.js';
import { opCases, type Case } from './types.js';

interface ScaleCase extends Case {
  readonly factor: number;
}

export const cases: readonly ScaleCase[] = [
  { name: 'negative', factor: -0.3, golden: true, gradcheck: false },
  { name: 'zero', factor: 0, golden: true, gradcheck: false },
];

export const scale = opCases<ScaleCase>({
  op: 'scale',
  cases,
  build(rig, c, inputs) {
    const y = rig.result('y', rig.b.scalar('y'));
    rig.b.emit('scale_fwd', { factor: c.factor }, { x: takeScalar(rig, inputs, 'x') }, { y });
    return results('y');
  },
  // Scalars are float64 on every backend.
  tolerance: () => 0,
});
