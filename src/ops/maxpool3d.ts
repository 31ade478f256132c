/** maxpool3d: kernel = stride, 1 or 2 an axis, floor sizes. Equation: native/ops/pool.h. */
import type { GraphBuilder } from '../graph/builder.js';
import type { Node, Tensor } from '../graph/types.js';
import { sizeOf } from '../graph/shape.js';
import { defineFusion } from '../graph/fuse.js';
import { defineKernel, noSecond, port, required, type GradientContext } from '../graph/kernel.js';
import { withPorts } from '../graph/rewrite.js';

const ATTRS = 'i64 sd;i64 sh;i64 sw;i64 accumulate;';
defineKernel('maxpool3d_fwd', 'x > y', ATTRS, {
  gradient,
  alike: ['x', 'y'],
  exact: true,
  flops: (n) => sizeOf(required(n, 'x').shape),
});
defineKernel('maxpool3d_bwd', 'x dy > dx', ATTRS, {
  gradient: noSecond,
  accumulates: { accumulate: ['dx'] },
  alike: ['x', 'dy', 'dx'],
  flops: (n) => sizeOf(required(n, 'x').shape),
});

/** normact_fwd … maxpool3d_fwd of its result → the pooled tensor is written in the same pass. */
defineFusion('normact-pool', (nodes) => {
  const producer = new Map<Tensor, number>();
  const out: Node[] = [];
  for (const node of nodes) {
    const at = node.kernel === 'maxpool3d_fwd' ? producer.get(required(node, 'x')) : undefined;
    const norm = at === undefined ? undefined : out[at];
    if (at !== undefined && norm?.kernel === 'normact_fwd' && !port(norm, 'pooled')) {
      const { sd = 1, sh = 1, sw = 1 } = node.attrs;
      out[at] = withPorts(norm, { attrs: { ...norm.attrs, sd, sh, sw } }, { pooled: port(node, 'y') });
      continue;
    }
    for (const t of node.outputs) if (t) producer.set(t, out.length);
    out.push(node);
  }
  return out;
});

/** @returns [N, ⌊D/sD⌋, ⌊H/sH⌋, ⌊W/sW⌋, C] */
export function maxpool3d(b: GraphBuilder, x: Tensor, stride: readonly [number, number, number]): Tensor {
  const [sd, sh, sw] = stride;
  const [n, d, h, w, c] = x.shape;
  const y = b.tensor('pool', [n, Math.floor(d / sd), Math.floor(h / sh), Math.floor(w / sw), c], x.dtype);
  b.emit('maxpool3d_fwd', { sd, sh, sw, accumulate: 0 }, { x }, { y });
  return y;
}

function gradient(g: GradientContext): void {
  const dy = g.dout('y');
  const x = g.input('x');
  if (!dy || !g.needs(x)) return;
  const { tensors, accumulate } = g.sinks([x]);
  g.b.emit('maxpool3d_bwd', { ...g.node.attrs, accumulate }, { x, dy }, { dx: tensors[0] });
}
