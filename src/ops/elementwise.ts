/** add, copy, concat, fill, wsum, scale, round: small pieces of arithmetic. Equations: native/ops/elementwise.h. */
import { MaclError } from '../errors.js';
import { withChannels, type GraphBuilder } from '../graph/builder.js';
import type { Node, Tensor } from '../graph/types.js';
import { placeOf, sameShape, showShape } from '../graph/shape.js';
import { defineFusion } from '../graph/fuse.js';
import { defineKernel, none, noSecond, required, type GradientContext } from '../graph/kernel.js';
import { tensorsOverlap } from '../graph/regions.js';

defineKernel('add_fwd', 'a b > y', 'i64 unused;', {
  gradient: addGradient,
  inPlace: ['y', 'a'],
  alike: ['a', 'b', 'y'],
});
defineKernel('copy_fwd', 'x > y', 'i64 accumulate;', {
  gradient: copyGradient,
  accumulates: { accumulate: ['y'] },
  alike: ['x', 'y'],
});
defineKernel('concat_fwd', 'a b > y', 'i64 unused;', {
  gradient: concatGradient,
  alike: ['a', 'b', 'y'],
  exact: true,
});
defineKernel('concat_bwd', 'dy > da db', 'i64 unused;', {
  gradient: noSecond,
  alike: ['dy', 'da', 'db'],
  exact: true,
});
defineKernel('fill_fwd', '> y', 'f64 value;', { gradient: none('a constant depends on nothing') });
defineKernel('wsum_fwd', 's0 s1? s2? s3? > total', 'f64 w0;f64 w1;f64 w2;f64 w3;', { gradient: wsumGradient });
defineKernel('scale_fwd', 'x > y', 'f64 factor;', { gradient: scaleGradient });
defineKernel('round_fwd', 'x > y', 'i64 dtype;', {
  gradient: none('it stands for how a narrow dtype is stored, and comes after differentiation'),
  alike: ['x', 'y'],
  exact: true,
});

/**
 * concat_fwd(a, b) → y: a and b are written straight into their channels of y; concat_bwd: the gradients of a and b are
 * slices of y's. Only where each part is an ordinary scratch tensor that lies nowhere else yet.
 */
defineFusion('concat', (nodes, graph) => {
  // What a dense view looks at, through other views too, must not become a slice.
  const denseInside = new Set<Tensor>();
  for (const t of graph.tensors)
    if (t.view?.dense) for (let of: Tensor | undefined = t.view.of; of; of = of.view?.of) denseInside.add(of);
  const free = (t: Tensor) => !t.view && t.segment === 'scratch' && !t.keep && !denseInside.has(t);
  // One that runs again would keep its other half, and so the joined tensor, alive in between: those are copied.
  const twice = new Set(nodes.flatMap((n) => (n.again ? [n.id, n.again.id] : [])));
  const users = new Users(nodes);
  return nodes.filter((node, i) => {
    const forward = node.kernel === 'concat_fwd';
    if ((!forward && node.kernel !== 'concat_bwd') || twice.has(node.id)) return true;
    const [whole, first, second] = forward
      ? [required(node, 'y'), required(node, 'a'), required(node, 'b')]
      : [required(node, 'dy'), required(node, 'da'), required(node, 'db')];
    if (whole.view || first === second || !free(first) || !free(second)) return true;
    // One memory holds both now, so no later write may change one of them under a reader of the other.
    const later = (t: Tensor) => users.writers(t).some((at) => at > i);
    if (forward && (later(first) || later(second) || users.writers(whole).length > 1)) return true;
    if (!forward && (!free(whole) || users.readers(whole).length > 1)) return true;
    first.view = { of: whole, offset: 0, dense: false };
    second.view = { of: whole, offset: first.shape[4], dense: false };
    for (const part of [first, second]) users.join(whole, part);
    return false;
  });
});

/** Which nodes use what lies in a tensor's memory, as views move into others. */
class Users {
  private readonly byRoot = new Map<Tensor, Set<number>>();

  constructor(private readonly nodes: readonly Node[]) {
    nodes.forEach((node, i) => {
      for (const t of [...node.inputs, ...node.outputs]) if (t) this.of(placeOf(t).root).add(i);
    });
  }

  /** Places of nodes. */
  writers(t: Tensor): number[] {
    return this.using(t, (node) => node.outputs);
  }

  readers(t: Tensor): number[] {
    return this.using(t, (node) => node.inputs);
  }

  /** `part` lies in `whole` from now on. */
  join(whole: Tensor, part: Tensor): void {
    const all = this.of(placeOf(whole).root);
    for (const at of this.of(part)) all.add(at);
  }

  private using(t: Tensor, ports: (node: Node) => readonly (Tensor | null)[]): number[] {
    const uses = (at: number) => ports(this.nodes[at] as Node).some((other) => other && tensorsOverlap(other, t));
    return [...this.of(placeOf(t).root)].filter(uses);
  }

  private of(root: Tensor): Set<number> {
    const found = this.byRoot.get(root) ?? new Set<number>();
    this.byRoot.set(root, found);
    return found;
  }
}

/** a + b of one shape, for example a residual. */
export function add(b: GraphBuilder, x: Tensor, y: Tensor): Tensor {
  if (!sameShape(x.shape, y.shape))
    throw new MaclError('config', `add: shapes differ: ${showShape(x.shape)} and ${showShape(y.shape)}`);
  const out = b.tensor('add', x.shape, x.dtype);
  b.emit('add_fwd', { unused: 0 }, { a: x, b: y }, { y: out });
  return out;
}

/** factor · x of a float64 scalar. */
export function scale(b: GraphBuilder, x: Tensor, factor: number): Tensor {
  const y = b.scalar('scale');
  b.emit('scale_fwd', { factor }, { x }, { y });
  return y;
}

/** [a, b] along the channels; the grids must be the same. */
export function concat(b: GraphBuilder, x: Tensor, y: Tensor): Tensor {
  if (![0, 1, 2, 3].every((i) => x.shape[i] === y.shape[i]))
    throw new MaclError('config', `concat: grids differ: ${showShape(x.shape)} and ${showShape(y.shape)}`);
  const out = b.tensor('concat', withChannels(x.shape, x.shape[4] + y.shape[4]), x.dtype);
  b.emit('concat_fwd', { unused: 0 }, { a: x, b: y }, { y: out });
  return out;
}

/** Every element of t becomes `value`. */
export function fill(b: GraphBuilder, t: Tensor, value: number): Tensor {
  b.emit('fill_fwd', { value }, {}, { y: t });
  return t;
}

/** Σ w_i · s_i over up to four float64 scalars. */
export function wsum(b: GraphBuilder, terms: readonly { weight: number; value: Tensor }[]): Tensor {
  if (terms.length < 1 || terms.length > 4)
    throw new MaclError('program', `wsum takes 1 to 4 terms, not ${terms.length}`);
  const total = b.scalar('total');
  const attrs = Object.fromEntries([0, 1, 2, 3].map((i) => [`w${i}`, terms[i]?.weight ?? 0]));
  const inputs = Object.fromEntries(terms.map((t, i) => [`s${i}`, t.value]));
  b.emit('wsum_fwd', attrs, inputs, { total });
  return total;
}

function addGradient(g: GradientContext): void {
  const dy = g.dout('y');
  const [a, c] = [g.input('a'), g.input('b')];
  if (!dy) return;
  if (g.needs(a) && g.needs(c)) {
    const { tensors, accumulate } = g.sinks([a]);
    g.b.emit('copy_fwd', { accumulate }, { x: dy }, { y: tensors[0] });
  } else g.handOn(dy, a);
  g.handOn(dy, c);
}

function copyGradient(g: GradientContext): void {
  const dy = g.dout('y');
  if (dy) g.handOn(dy, g.input('x'));
}

function concatGradient(g: GradientContext): void {
  const dy = g.dout('y');
  const [a, c] = [g.input('a'), g.input('b')];
  if (!dy || !(g.needs(a) || g.needs(c))) return;
  const parts = g.sinks([a, c]);
  if (parts.accumulate === 0) {
    g.b.emit('concat_bwd', { unused: 0 }, { dy }, { da: parts.tensors[0], db: parts.tensors[1] });
    return;
  }
  let offset = 0;
  for (const [i, t] of [a, c].entries()) {
    const slice = g.b.tensor('slice', t.shape, dy.dtype, { view: { of: dy, offset, dense: false } });
    g.b.emit('copy_fwd', { accumulate: 1 }, { x: slice }, { y: parts.tensors[i] });
    offset += t.shape[4];
  }
}

function wsumGradient(g: GradientContext): void {
  const dtotal = g.dout('total');
  if (!dtotal) return;
  for (const i of [0, 1, 2, 3]) {
    const s = g.optional(`s${i}`);
    if (s) scaled(g, dtotal, s, g.node.attrs[`w${i}`] ?? 0);
  }
}

function scaleGradient(g: GradientContext): void {
  const dy = g.dout('y');
  if (dy) scaled(g, dy, g.input('x'), g.node.attrs['factor'] ?? 0);
}

function scaled(g: GradientContext, dy: Tensor, t: Tensor, factor: number): void {
  g.pass(t, (y) => g.b.emit('scale_fwd', { factor }, { x: dy }, { y }));
}
