/** conv3d: 3-D convolution, kernel 1 or 3 and stride 1 or 2 an axis, padding k/2. Equation: native/ops/conv3d.h. */
import { MaclError } from '../errors.js';
import type { GraphBuilder } from '../graph/builder.js';
import { DTYPES, type DType, type Node, type Shape, type Tensor } from '../graph/types.js';
import { sizeOf } from '../graph/shape.js';
import { defineFusion } from '../graph/fuse.js';
import { defineKernel, none, noSecond, packedTo, port, required, type GradientContext } from '../graph/kernel.js';
import { withPorts } from '../graph/rewrite.js';
import { DIRECT } from './conv3d-variants.js';

export interface Conv3dOptions {
  /** Stride of [D, H, W]; 1 by default. */
  stride?: readonly [number, number, number];
  /** Leaky ReLU on the result with this slope (0: ReLU). */
  activation?: { slope: number };
}

defineKernel('conv3d_pack', 'w > wp', 'i64 mode;i64 sd;i64 sh;i64 sw;i64 variant;i64 dtype;', {
  gradient: none('the convolution differentiates through it'),
  real: ['w'],
  narrows: packedTo,
});
defineKernel(
  'conv3d_fwd',
  'x wp b? > y mean? var? ws?',
  'i64 kd;i64 kh;i64 kw;i64 sd;i64 sh;i64 sw;i64 stats;i64 act;f64 slope;i64 accumulate;i64 variant;',
  { gradient, alike: ['x', 'y'], real: ['b', 'mean', 'var'], flops: (n) => macs(n, 'y', 'x') * 2 },
);
defineKernel(
  'conv3d_bwd_x',
  'dy wp > dx ws?',
  'i64 kd;i64 kh;i64 kw;i64 sd;i64 sh;i64 sw;i64 stats;i64 act;f64 slope;i64 accumulate;i64 variant;',
  {
    gradient: noSecond,
    accumulates: { accumulate: ['dx'] },
    alike: ['dy', 'dx'],
    flops: (n) => macs(n, 'dy', 'dx') * 2,
  },
);
defineKernel(
  'conv3d_bwd_w',
  'x dy > dw db? ws?',
  'i64 kd;i64 kh;i64 kw;i64 sd;i64 sh;i64 sw;i64 stats;i64 act;f64 slope;i64 accumulate;i64 variant;',
  {
    gradient: noSecond,
    accumulates: { accumulate: ['dw', 'db'] },
    alike: ['x', 'dy'],
    real: ['dw', 'db'],
    flops: (n) => macs(n, 'dy', 'x') * 2,
  },
);

/**
 * conv3d_fwd … normact_stats of its result → the convolution writes mean and variance itself: those of all samples, so
 * InstanceNorm's stay beside it.
 */
defineFusion('conv-stats', (nodes) => {
  const producer = new Map<Tensor, number>();
  const out: (Node | null)[] = [];
  for (const node of nodes) {
    const at = node.kernel === 'normact_stats' ? producer.get(required(node, 'x')) : undefined;
    const conv = at === undefined ? null : out[at];
    const fits = conv?.kernel === 'conv3d_fwd' && !port(conv, 'mean') && conv.attrs['act'] === 0;
    if (at !== undefined && fits && sizeOf(required(node, 'mean').shape) === required(node, 'x').shape[4]) {
      const ports = { mean: port(node, 'mean'), var: port(node, 'var') };
      out[at] = withPorts(conv, { attrs: { ...conv.attrs, stats: 1 } }, ports);
      continue;
    }
    for (const t of node.outputs) if (t) producer.set(t, out.length);
    out.push(node);
  }
  return out.filter((n) => n !== null);
});

/** 1×1×1, without anything around it. */
const PLAIN = { kd: 1, kh: 1, kw: 1, sd: 1, sh: 1, sw: 1, stats: 0, act: 0, slope: 0, accumulate: 0, variant: DIRECT };

/**
 * @param x [N, D, H, W, I]
 * @param w [O, I, kD, kH, kW], PyTorch's layout
 * @param bias [O] or null
 * @returns [N, D', H', W', O] with D' = floor((D − 1) / s) + 1
 */
export function conv3d(
  b: GraphBuilder,
  x: Tensor,
  w: Tensor,
  bias: Tensor | null,
  options: Conv3dOptions = {},
): Tensor {
  const [o, i, kd, kh, kw] = w.shape;
  const [sd, sh, sw] = options.stride ?? [1, 1, 1];
  if (![kd, kh, kw].every((k) => k === 1 || k === 3) || ![sd, sh, sw].every((s) => s === 1 || s === 2))
    throw new MaclError(
      'config',
      `conv3d: kernels are 1 or 3 and strides 1 or 2, found ${kd}×${kh}×${kw}, ${sd}×${sh}×${sw}`,
    );
  if (x.shape[4] !== i) throw new MaclError('config', `conv3d: the weights take ${i} channels, x has ${x.shape[4]}`);
  const out = (n: number, s: number) => Math.floor((n - 1) / s) + 1;
  const shape: Shape = [x.shape[0], out(x.shape[1], sd), out(x.shape[2], sh), out(x.shape[3], sw), o];
  const y = b.tensor(`${w.name}.y`, shape, x.dtype);
  const wp = pack(b, w, 0, [sd, sh, sw], x.dtype);
  const act = options.activation;
  const epilogue = act ? { act: 1, slope: act.slope } : {};
  const attrs = { ...PLAIN, kd, kh, kw, sd, sh, sw, ...epilogue };
  b.emit('conv3d_fwd', attrs, { x, wp, b: bias }, { y, ws: b.opaque('ws') });
  return y;
}

/** @param dtype of the activations that the weights are multiplied with */
function pack(
  b: GraphBuilder,
  w: Tensor,
  mode: 0 | 1,
  [sd, sh, sw]: readonly [number, number, number],
  dtype: DType,
): Tensor {
  const attrs = { mode, sd, sh, sw, variant: DIRECT, dtype: DTYPES[dtype] };
  return b.emitOnce('conv3d_pack', attrs, { w }, 'wp', () => b.opaque(`${w.name}.wp${mode}`));
}

function gradient(g: GradientContext): void {
  const { b, node } = g;
  const dy = g.dout('y');
  if (!dy) return;
  if (node.attrs['act'] === 1) throw new MaclError('program', 'conv3d: an activation in the epilogue has no gradient');
  const [x, bias] = [g.input('x'), g.optional('b')];
  const w = required(b.producer(g.input('wp')) as Node, 'w');
  g.covers('wp');
  const { sd = 1, sh = 1, sw = 1 } = node.attrs;
  if (g.needs(w) || g.needs(bias)) {
    const sinks = g.sinks(bias && g.needs(bias) ? [w, bias] : [w]);
    const [dw, db] = sinks.tensors;
    b.emit('conv3d_bwd_w', { ...node.attrs, accumulate: sinks.accumulate }, { x, dy }, { dw, db, ws: b.opaque('ws') });
  }
  if (g.needs(x)) {
    const sinks = g.sinks([x]);
    const wp = pack(b, w, 1, [sd, sh, sw], dy.dtype);
    const dx = sinks.tensors[0];
    b.emit('conv3d_bwd_x', { ...node.attrs, accumulate: sinks.accumulate }, { dy, wp }, { dx, ws: b.opaque('ws') });
  }
}

/**
 * Σ x xᵀ and Σ x over all voxels: the weight gradient of a 1×1×1 convolution whose upstream gradient is its own input.
 * @returns `products` [C, C] and `sums` [C]
 */
export function channelProducts(b: GraphBuilder, x: Tensor): { products: Tensor; sums: Tensor } {
  const c = x.shape[4];
  const products = b.tensor('products', [c, c, 1, 1, 1], b.real);
  const sums = b.tensor('sums', [c, 1, 1, 1, 1], b.real);
  b.emit('conv3d_bwd_w', PLAIN, { x, dy: x }, { dw: products, db: sums, ws: b.opaque('ws') });
  return { products, sums };
}

function macs(node: Node, outputSide: string, inputSide: string): number {
  const { kd = 1, kh = 1, kw = 1 } = node.attrs;
  return sizeOf(required(node, outputSide).shape) * required(node, inputSide).shape[4] * kd * kh * kw;
}
