/** Cases of sgd, adam, adamw and of the gradient norm with clipping: n elements, three steps each, in one program. */
import type { Tensor } from '../../src/graph/types.js';
import { adam, gradnorm, sgd } from '../../src/ops/index.js';
import { normal } from '../golden/random.js';
import type { Rig } from '../golden/rig.js';
import { results, takeReal } from './build.js';
import { opCases, type Built, type Case, type Inputs } from './types.js';

export interface OptimCase extends Case {
  readonly kind: 'sgd' | 'adam' | 'adamw';
  readonly n: number;
  readonly lr: number;
  readonly momentum: number;
  readonly weightDecay: number;
  /** 0: no clipping. */
  readonly maxNorm: number;
}

export const cases: readonly OptimCase[] = [
  {
    name: 'sgd',
    kind: 'sgd',
    n: 37,
    lr: 0.1,
    momentum: 0.9,
    weightDecay: 0.01,
    maxNorm: 0,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'sgdPlain',
    kind: 'sgd',
    n: 16,
    lr: 0.03,
    momentum: 0,
    weightDecay: 0,
    maxNorm: 0,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'sgdClipped',
    kind: 'sgd',
    n: 37,
    lr: 0.1,
    momentum: 0.9,
    weightDecay: 0.00001,
    maxNorm: 1.5,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'adam',
    kind: 'adam',
    n: 37,
    lr: 0.0005,
    momentum: 0,
    weightDecay: 0,
    maxNorm: 0,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'adamDecay',
    kind: 'adam',
    n: 21,
    lr: 0.001,
    momentum: 0,
    weightDecay: 0.1,
    maxNorm: 100,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'adamw',
    kind: 'adamw',
    n: 37,
    lr: 0.002,
    momentum: 0,
    weightDecay: 0.05,
    maxNorm: 2,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'large',
    kind: 'adam',
    n: 100003,
    lr: 0.001,
    momentum: 0,
    weightDecay: 0.01,
    maxNorm: 1,
    golden: false,
    gradcheck: false,
  },
];

/** `loss` and every step's g, w, m, v and t are inputs; the guard is the last step's. */
export function buildOptim(rig: Rig, c: OptimCase, inputs: Inputs, steps: number): Built {
  const { b } = rig;
  const flat = (name: string, values: ArrayLike<number>) => rig.input(name, [c.n, 1, 1, 1, 1], values, rig.b.real);
  const scalar = (name: string, value: number) => rig.input(name, [1, 1, 1, 1, 1], [value], 'f64');
  const g = takeReal(rig, inputs, 'g', [steps, c.n]);
  const zeros = new Float64Array(c.n);
  const [w, m, v] = [flat('w', inputs('w', c.n)), flat('m', zeros), flat('v', zeros)];
  const [lr, loss, t] = [scalar('lr', c.lr), scalar('loss', 1), scalar('t', 0)];
  const names: string[] = [];
  const result = (name: string, tensor: Tensor) => {
    names.push(name);
    return rig.result(name, tensor);
  };
  for (let k = 0; k < steps; k++) {
    const part = b.tensor(`g${k}`, [c.n, 1, 1, 1, 1], b.real, { view: { of: g, offset: k * c.n, dense: true } });
    const { norm, clip, guard } = gradnorm(b, part, loss, c.maxNorm);
    result(`norm${k}`, norm);
    result(`clip${k}`, clip);
    b.guard = result(`guard${k}`, guard);
    const { momentum, weightDecay } = c;
    if (c.kind === 'sgd') sgd(b, { g: part, lr, clip, w }, m, { momentum, weightDecay });
    else {
      const options = { beta1: 0.9, beta2: 0.999, eps: 1e-8, weightDecay, decoupled: c.kind === 'adamw' };
      adam(b, { g: part, lr, clip, w }, m, v, t, options);
    }
    b.emit(
      'copy_fwd',
      { accumulate: 0 },
      { x: w },
      { y: result(`after${k}`, b.tensor('after', w.shape, w.dtype)) },
      true,
    );
  }
  return results(...names);
}

export const optim = opCases<OptimCase>({
  op: 'optim',
  cases,
  build: (rig, c, inputs) => buildOptim(rig, c, inputs, 3),
  // The file has the three steps of a result in one tensor; a gradient that is finite leaves the guard at 0.
  expected(c, name, value) {
    const [stem, k] = [name.slice(0, -1), Number(name.slice(-1))];
    if (stem === 'guard') return Float64Array.of(0);
    const size = stem === 'after' ? c.n : 1;
    return value(stem).subarray(k * size, (k + 1) * size);
  },
  random: (_, name, next) => (name === 'g' ? 0.01 : 1) * normal(next),
  tolerance: (_, kind) => (kind === 'f64' ? 1e-12 : 1e-6),
});
