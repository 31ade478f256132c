/**
 * Cases of normact: BatchNorm in training (`batch`) and evaluation (`given`), InstanceNorm, no norm; with γ and β or
 * without; the activation (slope 0.01 leaky, 0 ReLU, 1 none), and the pooled output of the fused kernel where `pool` is
 * not all ones. Where there is a γ, BatchNorm keeps running statistics too.
 */
import { required } from '../../src/graph/kernel.js';
import type { Node, Tensor } from '../../src/graph/types.js';
import * as ops from '../../src/ops/index.js';
import { normal } from '../golden/random.js';
import { finish, take, takeReal } from './build.js';
import type { Rig } from '../golden/rig.js';
import { opCases, type Case, type Inputs, type Shape, type Triple } from './types.js';

interface NormactCase extends Case {
  readonly x: Shape;
  readonly norm: 'none' | 'batch' | 'given' | 'instance';
  readonly affine: boolean;
  readonly slope: number;
  readonly pool: Triple;
}

export const cases: readonly NormactCase[] = [
  {
    name: 'leaky',
    x: [2, 3, 5, 7, 5],
    norm: 'batch',
    affine: true,
    slope: 0.01,
    pool: [2, 2, 2],
    golden: true,
    gradcheck: false,
  },
  {
    name: 'small',
    x: [2, 2, 3, 3, 3],
    norm: 'batch',
    affine: true,
    slope: 0.01,
    pool: [1, 2, 2],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'relu',
    x: [3, 1, 4, 5, 17],
    norm: 'batch',
    affine: true,
    slope: 0,
    pool: [1, 2, 2],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'identity',
    x: [1, 2, 3, 5, 8],
    norm: 'batch',
    affine: true,
    slope: 1,
    pool: [1, 1, 1],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'offset',
    x: [2, 3, 4, 5, 4],
    norm: 'batch',
    affine: true,
    slope: 0.01,
    pool: [1, 1, 1],
    golden: true,
    gradcheck: false,
  },
  {
    name: 'eval',
    x: [2, 3, 4, 5, 19],
    norm: 'given',
    affine: true,
    slope: 0.01,
    pool: [2, 1, 2],
    golden: true,
    gradcheck: false,
  },
  {
    name: 'reluOnly',
    x: [2, 2, 3, 5, 9],
    norm: 'none',
    affine: false,
    slope: 0,
    pool: [1, 1, 1],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'leakyOnly',
    x: [1, 3, 1, 5, 3],
    norm: 'none',
    affine: false,
    slope: 0.01,
    pool: [1, 1, 1],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'evalSmall',
    x: [2, 1, 3, 3, 5],
    norm: 'given',
    affine: true,
    slope: 0.01,
    pool: [1, 1, 1],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'evalPlain',
    x: [3, 2, 1, 3, 4],
    norm: 'given',
    affine: false,
    slope: 0,
    pool: [1, 1, 1],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'batchPlain',
    x: [4, 1, 1, 1, 6],
    norm: 'batch',
    affine: false,
    slope: 0,
    pool: [1, 1, 1],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'instance',
    x: [3, 2, 3, 4, 5],
    norm: 'instance',
    affine: true,
    slope: 0.01,
    pool: [1, 2, 2],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'instanceOne',
    x: [1, 2, 3, 3, 8],
    norm: 'instance',
    affine: true,
    slope: 0.01,
    pool: [2, 1, 1],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'instancePlain',
    x: [2, 1, 4, 3, 17],
    norm: 'instance',
    affine: false,
    slope: 0,
    pool: [1, 1, 1],
    golden: true,
    gradcheck: true,
  },
  {
    name: 'c32',
    x: [2, 6, 9, 17, 32],
    norm: 'batch',
    affine: true,
    slope: 0.01,
    pool: [2, 2, 2],
    golden: false,
    gradcheck: false,
  },
  {
    name: 'large',
    x: [2, 17, 21, 25, 16],
    norm: 'batch',
    affine: true,
    slope: 0.01,
    pool: [2, 2, 2],
    golden: false,
    gradcheck: false,
  },
  {
    name: 'evalC32',
    x: [2, 6, 9, 17, 32],
    norm: 'given',
    affine: true,
    slope: 0.01,
    pool: [2, 2, 2],
    golden: false,
    gradcheck: false,
  },
  {
    name: 'instanceC32',
    x: [3, 6, 9, 17, 32],
    norm: 'instance',
    affine: true,
    slope: 0.01,
    pool: [2, 2, 2],
    golden: false,
    gradcheck: false,
  },
  {
    name: 'instanceLarge',
    x: [2, 17, 21, 25, 16],
    norm: 'instance',
    affine: true,
    slope: 0.01,
    pool: [1, 1, 1],
    golden: false,
    gradcheck: false,
  },
];

const RUNNING_MOMENTUM = 0.1;

/** Running mean and variance as a state has them: side by side in one tensor, here an input that is read back. */
function runningOf(rig: Rig, inputs: Inputs, c: number): [mean: Tensor, variance: Tensor, running: Tensor] {
  const values = [inputs('rm', c), inputs('rv', c)].flatMap((v) => Array.from(v));
  const running = rig.input('running', [2 * c, 1, 1, 1, 1], values, rig.b.real);
  const part = (name: string, offset: number) =>
    rig.b.tensor(name, [c, 1, 1, 1, 1], running.dtype, { segment: 'io', view: { of: running, offset, dense: true } });
  return [part('rm', 0), part('rv', c), running];
}

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
    if (c.norm === 'none') {
      const y = ops.activation(b, x, c.slope);
      return finish(rig, y, inputs, mode, { x }, pooled(y));
    }
    const channels = (name: string) => takeReal(rig, inputs, name, [c.x[4]]);
    const [gamma, beta] = c.affine ? [channels('gamma'), channels('beta')] : [null, null];
    const eps = 1e-5;
    if (c.norm === 'given') {
      const norm = { gamma, beta, runningMean: channels('rm'), runningVar: channels('rv'), eps };
      const y = ops.normactEval(b, x, norm, c.slope);
      return finish(rig, y, inputs, mode, { x, gamma, beta }, pooled(y));
    }
    const statistics = (mean: Tensor, variance: Tensor, y: Tensor): string[] => {
      rig.result('mean', mean);
      rig.result('var', variance);
      return ['mean', 'var', ...pooled(y)];
    };
    if (c.norm === 'instance') {
      const y = ops.instanceNorm(b, x, { gamma, beta, eps }, c.slope);
      const fwd = b.producer(y) as Node;
      const more = statistics(required(fwd, 'mean'), required(fwd, 'var'), y);
      return finish(rig, y, inputs, mode, { x, gamma, beta }, more);
    }
    const [runningMean, runningVar, running] = c.affine ? runningOf(rig, inputs, c.x[4]) : [null, null, null];
    const { y, pass } = ops.normactTrain(b, x, { gamma, beta, runningMean, runningVar, eps }, c.slope);
    const more = statistics(pass.mean, pass.var, y);
    if (running) {
      // The pass's own are results, which lie nowhere else: the kernel gets copies.
      const copy = (t: Tensor): Tensor => {
        const to = b.tensor(`${t.name}.copy`, t.shape, t.dtype);
        b.emit('copy_fwd', { accumulate: 0 }, { x: t }, { y: to });
        return to;
      };
      ops.updateRunning(b, [{ ...pass, mean: copy(pass.mean), var: copy(pass.var) }], running, RUNNING_MOMENTUM);
      b.guard = rig.input('guard', [1, 1, 1, 1, 1], [0], 'i32');
      more.push('running');
    }
    return finish(rig, y, inputs, mode, { x, gamma, beta }, more);
  },
  random: (_, name, next) => (name === 'rv' ? 0.2 + 0.8 * next() : normal(next)),
  // What a run changes in place.
  expected: (_, name, value) =>
    name === 'running' ? Float64Array.of(...value('new_rm'), ...value('new_rv')) : value(name),
  // fp32 has 2⁻²⁴ of a mean 200 times the deviation to lose.
  tolerance: (c, kind) => (c.name === 'offset' && kind === 'f32' ? 1e-4 : undefined),
  timing: [
    {
      name: '2×48×64×48×16, pooled',
      x: [2, 48, 64, 48, 16],
      norm: 'batch',
      affine: true,
      slope: 0.01,
      pool: [2, 2, 2],
      golden: false,
      gradcheck: false,
    },
  ],
});
