/**
 * detach, sliceChannels, rows, reshape: other looks at the same memory. They cost nothing at run time: no kernel, no copy,
 * and their gradients lie in the gradient of what they look at. A view cannot be a result (`b.output`): copy it.
 */
import { MaclError } from '../errors.js';
import { withChannels, type GraphBuilder } from '../graph/builder.js';
import { defineAlias, stop, through } from '../graph/kernel.js';
import { placeOf, showShape, sizeOf } from '../graph/shape.js';
import type { Shape, Tensor } from '../graph/types.js';

defineAlias('detach', stop);
defineAlias('slice', through);
defineAlias('rows', through);
defineAlias('reshape', through);

/** x as a constant: no gradient passes. */
export function detach(b: GraphBuilder, x: Tensor): Tensor {
  return b.alias('detach', x, x.shape, { offset: 0, dense: false });
}

function checkRange(name: string, x: Tensor, start: number, count: number, size: number): void {
  const whole = Number.isSafeInteger(start) && Number.isSafeInteger(count);
  if (!whole || start < 0 || count < 1 || start + count > size)
    throw new MaclError('config', `${name} ${start} … ${start + count - 1} of ${x.name}, which has ${size}`, {
      expected: size,
      found: start + count,
    });
}

/** Channels offset … offset + count − 1. */
export function sliceChannels(b: GraphBuilder, x: Tensor, offset: number, count: number): Tensor {
  checkRange('channels', x, offset, count, x.shape[4]);
  return b.alias('slice', x, withChannels(x.shape, count), { offset, dense: false });
}

/** Samples start … start + count − 1. */
export function rows(b: GraphBuilder, x: Tensor, start: number, count: number): Tensor {
  const [n, d, h, w, c] = x.shape;
  checkRange('samples', x, start, count, n);
  return b.alias('rows', x, [count, d, h, w, c], { offset: 0, dense: false, voxel: start * d * h * w });
}

/** The same numbers in the same order under another shape; not of a slice of channels. */
export function reshape(b: GraphBuilder, x: Tensor, shape: Shape): Tensor {
  if (sizeOf(shape) !== sizeOf(x.shape))
    throw new MaclError('config', `reshape: ${showShape(x.shape)} does not fill ${showShape(shape)}`);
  if (placeOf(x).ld !== x.shape[4] && sizeOf(x.shape) !== x.shape[4])
    throw new MaclError('config', `reshape: ${x.name} is a slice of channels, which has gaps; copy it first`);
  return b.alias('reshape', x, shape, { offset: 0, dense: true });
}
