/**
 * Cases of normact: BatchNorm in training and evaluation, the activation (slope 0.01 leaky, 0 ReLU, 1 none), and the
 * pooled output of the fused kernel where `pool` is not all ones.
 */
import type { Tensor } from '../../src/graph/types.js';
import * as ops from '../../src/ops/index.js';
import { normal } from '../golden/random.js';
import { finish, results, take } from './build.js';
import { opCases, type Case, type Shape, type Triple } from './types.js';

interface NormactCase extends Case {
  readonly x: Shape;
  readonly norm: boolean;
  readonly training: boolean;
  readonly slope: number;
  readonly pool: Triple;
}

export const cases: readonly NormactCase[] = [
  {
    name: 'leaky',
    x: [2, 3, 5, 7, 5],
    norm: true,
    training: true,
    slope: 0.01,
    pool: [2, 2, 2],
    golden: true,
    gradcheck: false,
  },
  {
    name: 'small',
    x: [2, 2, 3, 3, 3],
    norm: true,
    training: true,
    slope: 0.01,
    pool: [1, 2, 2],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'relu',
    x: [3, 1, 4, 5, 17],
    norm: true,
    training: true,
    slope: 0,
    pool: [1, 2, 2],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'identity',
    x: [1, 2, 3, 5, 8],
    norm: true,
    training: true,
    slope: 1,
    pool: [1, 1, 1],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'offset',
    x: [2, 3, 4, 5, 4],
    norm: true,
    training: true,
    slope: 0.01,
    pool: [1, 1, 1],
    golden: true,
    gradcheck: false,
  },
  {
    name: 'eval',
    x: [2, 3, 4, 5, 19],
    norm: true,
    training: false,
    slope: 0.01,
    pool: [2, 1, 2],
    golden: true,
    gradcheck: false,
  },
  {
    name: 'reluOnly',
    x: [2, 2, 3, 5, 9],
    norm: false,
    training: true,
    slope: 0,
    pool: [1, 1, 1],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'leakyOnly',
    x: [1, 3, 1, 5, 3],
    norm: false,
    training: true,
    slope: 0.01,
    pool: [1, 1, 1],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'c32',
    x: [2, 6, 9, 17, 32],
    norm: true,
    training: true,
    slope: 0.01,
    pool: [2, 2, 2],
    golden: false,
    gradcheck: false,
  },
  {
    name: 'large',
    x: [2, 17, 21, 25, 16],
    norm: true,
    training: true,
    slope: 0.01,
    pool: [2, 2, 2],
    golden: false,
    gradcheck: false,
  },
];

const RUNNING_MOMENTUM = 0.1;

export const normact = opCases<NormactCase>({
  op: 'normact',
  cases,
  build(rig, c, inputs, mode) {
    const x = take(rig, inputs, 'x', c.x);
    const { b } = rig;
    const pooled = (y: Tensor): string[] => {
      if (c.pool.every((s) => s === 1)) return [];
      rig.result('pooled', ops.maxpool3d(b, y, c.pool));
      return ['pooled'];
    };
    if (!c.norm) {
      const y = ops.activation(b, x, c.slope);
      return finish(rig, y, inputs, mode, { x }, pooled(y));
    }
    const [gamma, beta, runningMean, runningVar] = (['gamma', 'beta', 'rm', 'rv'] as const).map((name) =>
      take(rig, inputs, name, [c.x[4]]),
    ) as [Tensor, Tensor, Tensor, Tensor];
    const norm = { gamma, beta, runningMean, runningVar, eps: 1e-5 };
    if (!c.training) {
      const y = rig.result('y', ops.normactEval(b, x, norm, c.slope));
      return results('y', ...pooled(y));
    }
    const { y, pass } = ops.normactTrain(b, x, norm, c.slope);
    rig.result('mean', pass.mean);
    rig.result('var', pass.var);
    // Not in the commit phase here: these running statistics are an input that is read back.
    const attrs = { momentum: RUNNING_MOMENTUM, count: pass.count };
    b.emit('normact_running', attrs, { mean: pass.mean, var: pass.var }, { rm: runningMean, rv: runningVar });
    return finish(rig, y, inputs, mode, { x, gamma, beta }, ['mean', 'var', 'rm', 'rv', ...pooled(y)]);
  },
  random: (_, name, next) => (name === 'rv' ? 0.2 + 0.8 * next() : normal(next)),
  // What a run changes in place.
  expected: (_, name, value) => value(({ rm: 'new_rm', rv: 'new_rv' } as Record<string, string>)[name] ?? name),
  // fp32 has 2⁻²⁴ of a mean 200 times the deviation to lose.
  tolerance: (c, kind) => (c.name === 'offset' && kind === 'f32' ? 1e-4 : undefined),
  timing: [
    {
      name: '2×48×64×48×16, pooled',
      x: [2, 48, 64, 48, 16],
      norm: true,
      training: true,
      slope: 0.01,
      pool: [2, 2, 2],
      golden: false,
      gradcheck: false,
    },
  ],
});
