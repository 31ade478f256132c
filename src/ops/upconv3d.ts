/** upconv3d: transposed convolution with kernel = stride (1 or 2 an axis). Equation: native/ops/upconv3d.h. */
import { MaclError } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import { DTYPES, type DType, type Node, type Tensor } from '../graph/types.js';
import { sizeOf } from '../graph/shape.js';
import { DIRECT } from './conv3d-variants.js';
import { defineKernel, none, noSecond, packedTo, required, type GradientContext } from '../graph/kernel.js';

const ATTRS = 'i64 sd;i64 sh;i64 sw;i64 accumulate;';
defineKernel('upconv3d_pack', 'w > wp', 'i64 mode;i64 variant;i64 dtype;', {
  gradient: none('the convolution differentiates through it'),
  real: ['w'],
  narrows: packedTo,
});
defineKernel('upconv3d_fwd', 'x wp b? > y ws?', ATTRS, {
  gradient,
  alike: ['x', 'y'],
  real: ['b'],
  flops: (n) => 2 * sizeOf(required(n, 'y').shape) * required(n, 'x').shape[4],
});
defineKernel('upconv3d_bwd_x', 'dy wp > dx ws?', ATTRS, {
  gradient: noSecond,
  accumulates: { accumulate: ['dx'] },
  alike: ['dy', 'dx'],
  flops: (n) => 2 * sizeOf(required(n, 'dy').shape) * required(n, 'dx').shape[4],
});
defineKernel('upconv3d_bwd_w', 'x dy > dw db? ws?', ATTRS, {
  gradient: noSecond,
  accumulates: { accumulate: ['dw', 'db'] },
  alike: ['x', 'dy'],
  real: ['dw', 'db'],
  flops: (n) => 2 * sizeOf(required(n, 'dy').shape) * required(n, 'x').shape[4],
});

/**
 * @param x [N, D, H, W, I]
 * @param w [I, O, sD, sH, sW], PyTorch's layout
 * @returns [N, D·sD, H·sH, W·sW, O]
 */
export function upconv3d(b: GraphBuilder, x: Tensor, w: Tensor, bias: Tensor | null): Tensor {
  const [i, o, sd, sh, sw] = w.shape;
  if (x.shape[4] !== i) throw new MaclError('config', `upconv3d: the weights take ${i} channels, x has ${x.shape[4]}`);
  const [n, d, h, wd] = x.shape;
  const y = b.tensor(`${w.name}.y`, [n, d * sd, h * sh, wd * sw, o], x.dtype);
  b.emit(
    'upconv3d_fwd',
    { sd, sh, sw, accumulate: 0 },
    { x, wp: pack(b, w, 0, x.dtype), b: bias },
    { y, ws: b.opaque('ws') },
  );
  return y;
}

/** @param dtype of the activations that the weights are multiplied with */
function pack(b: GraphBuilder, w: Tensor, mode: 0 | 1, dtype: DType): Tensor {
  const attrs = { mode, variant: DIRECT, dtype: DTYPES[dtype] };
  return b.emitOnce('upconv3d_pack', attrs, { w }, 'wp', () => b.opaque(`${w.name}.wp${mode}`));
}

function gradient(g: GradientContext): void {
  const { b, node } = g;
  const dy = g.dout('y');
  if (!dy) return;
  const [x, bias] = [g.input('x'), g.optional('b')];
  const w = required(b.producer(g.input('wp')) as Node, 'w');
  g.covers('wp');
  if (g.needs(w) || g.needs(bias)) {
    const { tensors, accumulate } = g.sinks(bias && g.needs(bias) ? [w, bias] : [w]);
    const [dw, db] = tensors;
    b.emit('upconv3d_bwd_w', { ...node.attrs, accumulate }, { x, dy }, { dw, db, ws: b.opaque('ws') });
  }
  if (g.needs(x)) {
    const { tensors, accumulate } = g.sinks([x]);
    b.emit(
      'upconv3d_bwd_x',
      { ...node.attrs, accumulate },
      { dy, wp: pack(b, w, 1, dy.dtype) },
      { dx: tensors[0], ws: b.opaque('ws') },
    );
  }
}
