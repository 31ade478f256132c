/** boxmix: two images mixed by boxes, and each voxel's level: VolumeFusion's input and labels. native/ops/boxmix.h. */
import { MaclError } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import { withChannels } from '../graph/builder.js';
import { defineKernel, none } from '../graph/kernel.js';
import { sameShape, showShape, sizeOf } from '../graph/shape.js';
import type { Tensor } from '../graph/types.js';

defineKernel('boxmix_fwd', 'f b boxes > x labels', 'i64 levels;', {
  gradient: none('it makes an input and its labels out of other inputs'),
  alike: ['f', 'b', 'x'],
  flops: (n) => 3 * n.inputs.slice(0, 1).reduce((sum, t) => sum + (t ? sizeOf(t.shape) : 0), 0),
});

/** Numbers of a box: start D, H, W, size D, H, W, level. */
export const BOX_WORDS = 7;

/**
 * Within a box x = α·f + (1 − α)·b with α = level / levels, elsewhere b; later boxes lie above earlier ones.
 * @param f [N, D, H, W, C] @param second [N, D, H, W, C]
 * @param boxes int32 [N, M, 7]: start D, H, W and size D, H, W in voxels, level 0 … levels; a size of 0 is no box
 * @param levels 1 … 255
 * @returns x [N, D, H, W, C], and the level of each voxel, int32 [N, D, H, W, 1]
 */
export function boxmix(
  b: GraphBuilder,
  f: Tensor,
  second: Tensor,
  boxes: Tensor,
  levels: number,
): { x: Tensor; labels: Tensor } {
  if (!sameShape(f.shape, second.shape))
    throw new MaclError('config', `boxmix: the images differ: ${showShape(f.shape)} and ${showShape(second.shape)}`);
  const x = b.tensor('mixed', f.shape, f.dtype);
  const labels = b.tensor('levels', withChannels(f.shape, 1), 'i32');
  b.emit('boxmix_fwd', { levels }, { f, b: second, boxes }, { x, labels });
  return { x, labels };
}
