/**
 * Cases of normact: BatchNorm in training and evaluation, the activation (slope 0.01 leaky, 0 ReLU, 1 none), and the
 * pooled output of the fused kernel where `pool` is not all ones.
 */
import type { Shape, Triple } from './types.js';

export interface NormactCase {
  readonly name: string;
  readonly x: Shape;
  readonly norm: boolean;
  readonly training: boolean;
  readonly slope: number;
  readonly pool: Triple;
  readonly golden: boolean;
  readonly gradcheck: boolean;
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
