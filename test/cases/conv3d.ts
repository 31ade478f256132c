/**
 * Cases of conv3d. One list an op drives golden values, parity, gradient checks, and benchmarks. The lists are plain
 * literals because tools/goldens/cases.py reads them too.
 */
import type { Shape, Triple } from './types.js';

export interface Conv3dCase {
  readonly name: string;
  /** [N, D, H, W, C] */
  readonly x: Shape;
  readonly out: number;
  readonly kernel: Triple;
  readonly stride: Triple;
  readonly bias: boolean;
  /** Whether test/fixtures/ops-conv3d.safetensors has it (the others are held against the reference alone). */
  readonly golden: boolean;
  /** Small enough for finite differences. */
  readonly gradcheck: boolean;
}

export const cases: readonly Conv3dCase[] = [
  {
    name: 'odd3d',
    x: [2, 3, 5, 7, 5],
    out: 7,
    kernel: [3, 3, 3],
    stride: [1, 1, 1],
    bias: true,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'first',
    x: [2, 4, 3, 6, 1],
    out: 3,
    kernel: [3, 3, 3],
    stride: [1, 1, 1],
    bias: true,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'flat2d',
    x: [2, 1, 6, 9, 3],
    out: 17,
    kernel: [1, 3, 3],
    stride: [1, 1, 1],
    bias: true,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'wide',
    x: [1, 2, 3, 18, 17],
    out: 9,
    kernel: [1, 3, 3],
    stride: [1, 1, 1],
    bias: true,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'head',
    x: [2, 2, 3, 5, 19],
    out: 3,
    kernel: [1, 1, 1],
    stride: [1, 1, 1],
    bias: true,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'stride2',
    x: [2, 5, 4, 7, 4],
    out: 6,
    kernel: [3, 3, 3],
    stride: [2, 2, 2],
    bias: true,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'strideMixed',
    x: [1, 4, 5, 6, 2],
    out: 3,
    kernel: [3, 1, 3],
    stride: [1, 2, 2],
    bias: false,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'strideKernel1',
    x: [2, 3, 5, 4, 3],
    out: 5,
    kernel: [1, 1, 1],
    stride: [2, 1, 2],
    bias: true,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'anisotropic',
    x: [1, 3, 4, 5, 3],
    out: 4,
    kernel: [3, 3, 1],
    stride: [1, 1, 1],
    bias: false,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'thin',
    x: [2, 1, 1, 2, 3],
    out: 2,
    kernel: [3, 3, 3],
    stride: [1, 1, 1],
    bias: true,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'c16',
    x: [1, 4, 5, 29, 16],
    out: 16,
    kernel: [3, 3, 3],
    stride: [1, 1, 1],
    bias: true,
    golden: false,
    gradcheck: false,
  },
  {
    name: 'c32',
    x: [2, 3, 4, 13, 32],
    out: 32,
    kernel: [3, 3, 3],
    stride: [1, 1, 1],
    bias: true,
    golden: false,
    gradcheck: false,
  },
  {
    name: 'c64to32',
    x: [1, 2, 3, 5, 64],
    out: 32,
    kernel: [3, 3, 3],
    stride: [1, 1, 1],
    bias: true,
    golden: false,
    gradcheck: false,
  },
  {
    name: 'c33to20',
    x: [1, 3, 5, 11, 33],
    out: 20,
    kernel: [3, 3, 3],
    stride: [1, 1, 1],
    bias: true,
    golden: false,
    gradcheck: false,
  },
  {
    name: 'large',
    x: [1, 12, 20, 25, 16],
    out: 16,
    kernel: [3, 3, 3],
    stride: [1, 1, 1],
    bias: true,
    golden: false,
    gradcheck: false,
  },
  {
    name: 'largeStride2',
    x: [2, 9, 14, 33, 7],
    out: 24,
    kernel: [3, 3, 3],
    stride: [2, 2, 2],
    bias: true,
    golden: false,
    gradcheck: false,
  },
  {
    name: 'large2d',
    x: [2, 1, 61, 67, 1],
    out: 32,
    kernel: [1, 3, 3],
    stride: [1, 1, 1],
    bias: true,
    golden: false,
    gradcheck: false,
  },
  {
    name: 'narrow',
    x: [2, 19, 23, 1, 12],
    out: 48,
    kernel: [3, 3, 3],
    stride: [1, 1, 1],
    bias: true,
    golden: false,
    gradcheck: false,
  },
  {
    name: 'largeHead',
    x: [2, 8, 15, 21, 16],
    out: 3,
    kernel: [1, 1, 1],
    stride: [1, 1, 1],
    bias: true,
    golden: false,
    gradcheck: false,
  },
];

/** Sizes whose speed is reported: [N, D, H, W, C] → the same number of channels, 3×3×3. */
export const benchSizes: readonly Shape[] = [
  [1, 48, 64, 48, 16],
  [1, 24, 32, 24, 32],
  [1, 12, 16, 12, 64],
];
