/**
 * Cases of warp3d: a volume [C, D, H, W] of some dtype in the store, an affine output voxel → volume voxel a sample.
 * `kind` names the affine: identity, mirror (W), shift (by a fraction), oblique (rotation, scale, shift).
 */
import type { Triple } from './types.js';

export interface Warp3dCase {
  readonly name: string;
  readonly interp: 'nearest' | 'linear' | 'cubic';
  readonly kind: 'identity' | 'mirror' | 'shift' | 'oblique';
  readonly dtype: 'f32' | 'f16' | 'i16' | 'u8';
  readonly volume: Triple;
  readonly out: Triple;
  readonly samples: number;
  readonly channels: number;
  /** stored · scale + offset */
  readonly scale: number;
  readonly offset: number;
  readonly fill: number;
  readonly noise: number;
}

export const cases: readonly Warp3dCase[] = [
  {
    name: 'identity',
    interp: 'linear',
    kind: 'identity',
    dtype: 'f32',
    volume: [4, 5, 6],
    out: [5, 5, 8],
    samples: 1,
    channels: 2,
    scale: 1,
    offset: 0,
    fill: -1.5,
    noise: 0,
  },
  {
    name: 'mirrorLabels',
    interp: 'nearest',
    kind: 'mirror',
    dtype: 'u8',
    volume: [4, 5, 7],
    out: [4, 5, 7],
    samples: 1,
    channels: 1,
    scale: 1,
    offset: 0,
    fill: 255,
    noise: 0,
  },
  {
    name: 'labels',
    interp: 'nearest',
    kind: 'oblique',
    dtype: 'u8',
    volume: [6, 7, 9],
    out: [5, 6, 7],
    samples: 2,
    channels: 1,
    scale: 1,
    offset: 0,
    fill: 0,
    noise: 0,
  },
  {
    name: 'linear',
    interp: 'linear',
    kind: 'oblique',
    dtype: 'i16',
    volume: [6, 7, 9],
    out: [5, 6, 7],
    samples: 2,
    channels: 2,
    scale: 0.0125,
    offset: -3.5,
    fill: 0.5,
    noise: 0,
  },
  {
    name: 'half',
    interp: 'linear',
    kind: 'shift',
    dtype: 'f16',
    volume: [4, 6, 5],
    out: [4, 6, 6],
    samples: 2,
    channels: 1,
    scale: 2,
    offset: 0.25,
    fill: 0,
    noise: 0,
  },
  {
    name: 'cubic',
    interp: 'cubic',
    kind: 'oblique',
    dtype: 'f32',
    volume: [6, 7, 9],
    out: [5, 6, 7],
    samples: 2,
    channels: 2,
    scale: 1,
    offset: 0,
    fill: 0.75,
    noise: 0,
  },
  {
    name: 'cubicFlat2d',
    interp: 'cubic',
    kind: 'shift',
    dtype: 'i16',
    volume: [1, 8, 9],
    out: [1, 7, 9],
    samples: 2,
    channels: 1,
    scale: 0.01,
    offset: 1,
    fill: 0,
    noise: 0,
  },
  {
    name: 'noise',
    interp: 'linear',
    kind: 'shift',
    dtype: 'f32',
    volume: [3, 4, 5],
    out: [3, 5, 4],
    samples: 2,
    channels: 2,
    scale: 1,
    offset: 0,
    fill: 0,
    noise: 0.3,
  },
];
