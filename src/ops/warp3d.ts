/**
 * warp3d: crop + affine + mirror + intensity from volumes in the store, through descriptors in the step's input.
 * Layout and equation: native/ops/warp3d.h. It has no gradient: it is where data enters the program.
 */
import { MaclError } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import { DTYPES, type DType, type Shape, type Tensor } from '../graph/types.js';
import { sizeOf } from '../graph/shape.js';
import { defineKernel, none, required } from '../graph/kernel.js';

defineKernel('warp3d_fwd', 'desc > y', 'i64 interp;', {
  gradient: none('it is where data enters'),
  flops: (n) => 30 * sizeOf(required(n, 'y').shape),
});

/** float64 words a descriptor. */
export const WARP_WORDS = 40;
export type Interpolation = 'nearest' | 'linear' | 'cubic';

/** Where a channel of a volume (or of a box of it) lies in the store. */
export interface VolumeDescriptor {
  /** Byte offset in the store segment. */
  readonly base: number;
  /** [D, H, W] */
  readonly shape: readonly [number, number, number];
  /** Elements from one voxel to the next along D, H, W. */
  readonly strides: readonly [number, number, number];
  readonly dtype: DType;
  /** value = stored · scale + offset */
  readonly scale: number;
  readonly offset: number;
}

/** What one sample's draw decides. */
export interface WarpParams {
  /** 3×4 row-major: output voxel (d, h, w, 1) → voxel of the volume. */
  readonly affine: readonly number[];
  readonly gain: number;
  readonly bias: number;
  readonly noiseSd: number;
  /** 64 bits as [low, high] */
  readonly noiseSeed: readonly [number, number];
  /** Value of a voxel outside the volume. */
  readonly fill: number;
}

/** The input that the host writes descriptors into: one a sample and channel. */
export function warpInput(b: GraphBuilder, name: string, samples: number, channels: number): Tensor {
  return b.input(name, [samples, channels, WARP_WORDS, 1, 1], 'f64');
}

/**
 * @returns [N, D, H, W, C] from the descriptors that the host writes into the input `name`
 * @param desc those of these samples, where they are not all of the input
 */
export function warp3d(
  b: GraphBuilder,
  name: string,
  shape: Shape,
  interp: Interpolation,
  dtype: DType = b.activation,
  desc: Tensor = warpInput(b, name, shape[0], shape[4]),
): Tensor {
  const y = b.tensor(`${name}.y`, shape, dtype);
  b.emit('warp3d_fwd', { interp: ['nearest', 'linear', 'cubic'].indexOf(interp) }, { desc }, { y });
  return y;
}

/** Writes the descriptor of (sample n, channel c) into a [N, C, 40] float64 array. */
export function writeDescriptor(words: Float64Array, index: number, v: VolumeDescriptor, p: WarpParams): void {
  if (p.affine.length !== 12) throw new MaclError('program', `an affine has 12 numbers, found ${p.affine.length}`);
  const at = index * WARP_WORDS;
  words.fill(0, at, at + WARP_WORDS);
  words.set([v.base, ...v.shape, ...v.strides, DTYPES[v.dtype], v.scale, v.offset, ...p.affine], at);
  words.set([p.gain, p.bias, p.noiseSd, p.noiseSeed[0], p.noiseSeed[1], p.fill], at + 22);
}
