/**
 * Where the gradients of one backward pass lie, and what of them holds something already. The gradient of a view lies in
 * the gradient of what it looks at, so parts may be written before the whole is.
 */
import type { GraphBuilder } from './builder.js';
import { kernelDef, through } from './kernel.js';
import { regionOf, regionsOverlap, uncovered, type Region } from './regions.js';
import { placeOf, sizeOf } from './shape.js';
import type { Tensor } from './types.js';

/** The gradient of one tensor and of all views of it. */
interface Family {
  readonly whole: Tensor;
  /** Made here, so that it may be handed on once its tensor's own node has read it; not a caller's. */
  readonly own: boolean;
  /** Whether all of it holds something, and else which parts do. */
  full: boolean;
  parts: Region[];
  /** Whether this pass has put anything there. */
  reached: boolean;
}

interface Gradient {
  readonly tensor: Tensor;
  readonly family: Family;
}

export class Gradients {
  private readonly known = new Map<Tensor, Gradient>();

  constructor(private readonly b: GraphBuilder) {}

  /** A gradient that lies in a tensor of the caller's; `full`: it holds something. */
  give(t: Tensor, tensor: Tensor, full: boolean): void {
    this.known.set(t, { tensor, family: { whole: tensor, own: false, full, parts: [], reached: false } });
  }

  /** A tensor for a gradient that is added to another, or that nobody needs. */
  temporary(t: Tensor): Tensor {
    return this.b.tensor(`d.${t.name}`, t.shape, t.dtype);
  }

  /** Where the gradient lies, whatever it holds. */
  tensorOf(t: Tensor): Tensor {
    return this.of(t).tensor;
  }

  /** Whether some of it holds something. */
  holds(t: Tensor): boolean {
    const view = this.viewed(t);
    if (!this.known.has(t) && !(view && this.holds(view.of))) return false;
    return this.some(this.of(t));
  }

  /** Whether this pass has put something into it (or into the gradient that it lies in). */
  reached(t: Tensor): boolean {
    return this.known.get(t)?.family.reached ?? false;
  }

  /** The gradient, null while nothing has been written; what has not been written of it becomes 0. */
  read(t: Tensor): Tensor | null {
    if (!this.holds(t)) return null;
    const g = this.of(t);
    this.settle(g);
    return g.tensor;
  }

  /** For a kernel that fills it: whether it has to add. What it has to add to is there then. */
  sink(t: Tensor): boolean {
    const g = this.of(t);
    const add = this.some(g);
    if (add) this.settle(g);
    return add;
  }

  /** It is about to be written as a whole. */
  mark(t: Tensor): void {
    const g = this.of(t);
    g.family.reached = true;
    if (g.family.full) return;
    if (sizeOf(g.tensor.shape) === sizeOf(g.family.whole.shape)) g.family.full = true;
    else g.family.parts.push(regionOf(g.tensor));
  }

  /** Makes the gradient of `from`, which nobody reads any more, that of `to`; false where that cannot be. */
  handOn(from: Tensor, to: Tensor): boolean {
    const g = this.known.get(from);
    if (!g?.family.own || g.tensor !== g.family.whole || this.known.has(to) || this.viewed(to)) return false;
    if (from.dtype !== to.dtype) return false;
    this.known.set(to, { tensor: g.tensor, family: { ...g.family, parts: [] } });
    return true;
  }

  /** Tensors whose gradients this pass has put something into. */
  all(): Tensor[] {
    return [...this.known].filter(([, g]) => g.family.reached).map(([t]) => t);
  }

  private of(t: Tensor): Gradient {
    let g = this.known.get(t);
    if (g) return g;
    const view = this.viewed(t);
    if (view) {
      const { tensor: outer, family } = this.of(view.of);
      const options = { view: { ...view, of: outer } };
      g = { tensor: this.b.tensor(`d.${t.name}`, t.shape, t.dtype, options), family };
    } else {
      const whole = this.temporary(t);
      g = { tensor: whole, family: { whole, own: true, full: false, parts: [], reached: false } };
    }
    this.known.set(t, g);
    return g;
  }

  /** How a view that gradients pass through looks at its tensor. */
  private viewed(t: Tensor): Tensor['view'] {
    const maker = this.b.producer(t);
    return maker && kernelDef(maker.kernel).gradient === through ? t.view : undefined;
  }

  private some({ tensor, family }: Gradient): boolean {
    if (family.full) return true;
    const region = regionOf(tensor);
    return family.parts.some((p) => regionsOverlap(p, region));
  }

  /** Fills with 0 what has not been written. */
  private settle({ tensor, family }: Gradient): void {
    if (family.full) return;
    for (const gap of uncovered(regionOf(tensor), family.parts)) {
      this.b.emit('fill_fwd', { value: 0 }, {}, { y: this.part(family.whole, gap) });
      family.parts.push(gap);
    }
    if (tensor === family.whole) family.full = true;
  }

  /** The tensor that is this region of a gradient's memory. */
  private part(whole: Tensor, { start, rows, length }: Region): Tensor {
    const place = placeOf(whole);
    const from = start - place.offset;
    const name = `${whole.name}.rest`;
    if (rows === 1) {
      const view = { of: whole, offset: from, dense: true };
      return this.b.tensor(name, [length, 1, 1, 1, 1], whole.dtype, { view });
    }
    const channel = from % place.ld;
    const view = { of: whole, offset: channel, dense: false, voxel: (from - channel) / place.ld };
    return this.b.tensor(name, [rows, 1, 1, 1, length], whole.dtype, { view });
  }
}
