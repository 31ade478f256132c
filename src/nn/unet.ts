/**
 * The U-Net of MACL: L encoder blocks with max-pooling, a centre block without norm, decoder blocks with transposed
 * convolutions and skips, a 1×1×1 head. 2-D is the case where axis D has stride 1 and kernel 1 everywhere.
 */
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import { concat, maxpool3d } from '../ops/index.js';
import {
  applyBlock,
  applyConv,
  applyConvRelu,
  applyUpconv,
  declareBlock,
  declareConv,
  declareUpconv,
  type Conv,
  type NormedConv,
  type PassMode,
} from './layers.js';
import type { Triple } from '../volume.js';
import type { StateBuilder } from './state.js';

export interface UnetShape {
  readonly inChannels: number;
  /** Filters of the first level; level l has filters · 2^l. */
  readonly filters: number;
  readonly levels: number;
  /** Stride of each level, [D, H, W]; 1 or 2 an axis. */
  readonly strides: readonly Triple[];
  /** Kernel of each level, and the centre's; 1 or 3 an axis. */
  readonly kernels: readonly Triple[];
}

export interface Encoder {
  readonly blocks: readonly NormedConv[][];
  readonly centre: readonly [Conv, Conv];
  readonly strides: readonly Triple[];
}

export interface DecoderBlock {
  readonly up: Conv;
  readonly block: readonly NormedConv[];
  /** Which encoder level's skip it takes. */
  readonly level: number;
}

export const filtersAt = (shape: UnetShape, level: number): number => shape.filters * 2 ** level;

export function declareEncoder(s: StateBuilder, shape: UnetShape): Encoder {
  const kernel = (l: number) => shape.kernels[l] as Triple;
  const blocks = Array.from({ length: shape.levels }, (_, l) => {
    const inputs = l === 0 ? shape.inChannels : filtersAt(shape, l - 1);
    return declareBlock(s, `encoder.blocks.${l}`, inputs, filtersAt(shape, l), kernel(l));
  });
  const wide = filtersAt(shape, shape.levels);
  const centre: [Conv, Conv] = [
    declareConv(s, 'encoder.centre.conv1', filtersAt(shape, shape.levels - 1), wide, kernel(shape.levels)),
    declareConv(s, 'encoder.centre.conv2', wide, wide, kernel(shape.levels)),
  ];
  return { blocks, centre, strides: shape.strides };
}

/** Decoder blocks 0 (deepest) … count − 1. */
export function declareDecoder(s: StateBuilder, shape: UnetShape, count: number): DecoderBlock[] {
  return Array.from({ length: count }, (_, i) => {
    const level = shape.levels - 1 - i;
    const [inputs, outputs] = [filtersAt(shape, level + 1), filtersAt(shape, level)];
    const name = `decoder.blocks.${i}`;
    return {
      up: declareUpconv(s, `${name}.up`, inputs, outputs, shape.strides[level] as Triple),
      block: declareBlock(s, name, 2 * outputs, outputs, shape.kernels[level] as Triple),
      level,
    };
  });
}

export function declareHead(s: StateBuilder, shape: UnetShape, classes: number): Conv {
  return declareConv(s, 'head', shape.filters, classes, [1, 1, 1]);
}

/** @returns the bottleneck [N, …, 2^L·f] and each level's skip */
export function encode(
  b: GraphBuilder,
  e: Encoder,
  x: Tensor,
  mode: PassMode,
): { bottleneck: Tensor; skips: Tensor[] } {
  const skips: Tensor[] = [];
  let y = x;
  e.blocks.forEach((block, l) => {
    const skip = applyBlock(b, block, y, mode);
    skips.push(skip);
    y = b.within(`encoder.blocks.${l}`, () => maxpool3d(b, skip, e.strides[l] as Triple));
  });
  for (const conv of e.centre) y = applyConvRelu(b, conv, y, mode);
  return { bottleneck: y, skips };
}

/** Runs the given decoder blocks; each upsamples, takes its skip (upsampled half first) and convolves twice. */
export function decode(
  b: GraphBuilder,
  blocks: readonly DecoderBlock[],
  bottleneck: Tensor,
  skips: readonly Tensor[],
  mode: PassMode,
): Tensor {
  let y = bottleneck;
  blocks.forEach(({ up, block, level }, i) => {
    const upsampled = applyUpconv(b, up, y);
    const joined = b.within(`decoder.blocks.${i}`, () => concat(b, upsampled, skips[level] as Tensor));
    y = applyBlock(b, block, joined, mode);
  });
  return y;
}

export function applyHead(b: GraphBuilder, head: Conv, x: Tensor): Tensor {
  return applyConv(b, head, x);
}
