/** Projectors: image level (pool → linear → ReLU → linear; MACL has one a branch), pixel level (MACL's auxiliary branch). */
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import { activation, avgpool } from '../ops/index.js';
import {
  applyBlock,
  applyLinear,
  declareBlock,
  declareLinear,
  type Conv,
  type NormedConv,
  type PassMode,
} from './layers.js';
import type { Triple } from '../volume.js';
import type { StateBuilder } from './state.js';

/** Width of the image-level projections. */
const PROJECTION = 128;

export interface ImageProjector {
  readonly fc1: Conv;
  readonly fc2: Conv;
}

export interface PixelProjector {
  readonly block: readonly NormedConv[];
}

export function declareImageProjector(
  s: StateBuilder,
  branch: 'dominant' | 'auxiliary',
  inputs: number,
  hidden: number,
  init: 'kaiming' | 'pytorch',
): ImageProjector {
  return declareProjector(s, `projector.image.${branch}`, { inputs, hidden, outputs: PROJECTION }, init);
}

/** Two linear layers `fc1`, `fc2` under `name`, widths as given. */
export function declareProjector(
  s: StateBuilder,
  name: string,
  { inputs, hidden, outputs }: { readonly inputs: number; readonly hidden: number; readonly outputs: number },
  init: 'kaiming' | 'pytorch',
): ImageProjector {
  return {
    fc1: declareLinear(s, `${name}.fc1`, inputs, hidden, init),
    fc2: declareLinear(s, `${name}.fc2`, hidden, outputs, init),
  };
}

export function declarePixelProjector(
  s: StateBuilder,
  inputs: number,
  outputs: number,
  kernel: Triple,
): PixelProjector {
  return { block: declareBlock(s, 'projector.pixel', inputs, outputs, kernel) };
}

/** @param x [N, D, H, W, C] @returns [N, 1, 1, 1, outputs] */
export function projectImage(b: GraphBuilder, p: ImageProjector, x: Tensor): Tensor {
  return applyLinear(b, p.fc2, activation(b, applyLinear(b, p.fc1, avgpool(b, x)), 0));
}

/** @param x [N, D, H, W, 2^L·f] @returns [N, D, H, W, 2^(L−n)·f] */
export function projectPixels(b: GraphBuilder, p: PixelProjector, x: Tensor, mode: PassMode): Tensor {
  return applyBlock(b, p.block, x, mode);
}
