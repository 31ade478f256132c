/** Cases of l1, softmaxce and dice. */
import type { Shape } from './types.js';

export interface L1Case {
  readonly name: string;
  readonly x: Shape;
  readonly relative: boolean;
  readonly golden: boolean;
  readonly gradcheck: boolean;
}

export const l1Cases: readonly L1Case[] = [
  { name: 'odd', x: [2, 3, 2, 5, 7], relative: false, golden: true, gradcheck: true },
  { name: 'flat2d', x: [3, 1, 4, 5, 16], relative: false, golden: true, gradcheck: false },
  { name: 'relative', x: [2, 1, 3, 3, 5], relative: true, golden: true, gradcheck: true },
  { name: 'large', x: [2, 9, 16, 17, 32], relative: false, golden: false, gradcheck: false },
];

export interface SegmentLossCase {
  readonly name: string;
  /** Logits [N, D, H, W, K]. */
  readonly x: Shape;
  /** Class weights of softmaxce; dice has none. */
  readonly classWeights: readonly number[] | null;
  readonly perSample: boolean;
  /** Share of voxels with label 255. */
  readonly ignored: number;
  readonly golden: boolean;
  readonly gradcheck: boolean;
}

export const segmentCases: readonly SegmentLossCase[] = [
  {
    name: 'plain',
    x: [2, 3, 4, 5, 3],
    classWeights: null,
    perSample: false,
    ignored: 0,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'ignored',
    x: [2, 2, 5, 3, 4],
    classWeights: null,
    perSample: false,
    ignored: 0.3,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'weighted',
    x: [3, 1, 4, 5, 3],
    classWeights: [0.2, 1.5, 3],
    perSample: true,
    ignored: 0.2,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'two',
    x: [1, 3, 2, 7, 2],
    classWeights: [1, 0.5],
    perSample: true,
    ignored: 0,
    golden: true,
    gradcheck: true,
  },
  {
    name: 'many',
    x: [2, 2, 3, 3, 17],
    classWeights: null,
    perSample: true,
    ignored: 0.1,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'sampleIgnored',
    x: [2, 1, 3, 2, 3],
    classWeights: null,
    perSample: true,
    ignored: -1,
    golden: true,
    gradcheck: false,
  },
  {
    name: 'large',
    x: [2, 15, 24, 33, 3],
    classWeights: null,
    perSample: true,
    ignored: 0,
    golden: false,
    gradcheck: false,
  },
];
