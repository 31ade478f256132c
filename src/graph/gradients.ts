/** Where the gradients of one backward pass lie, and which of them hold something already. */
import type { GraphBuilder } from './builder.js';
import type { Tensor } from './types.js';

export interface Gradient {
  readonly tensor: Tensor;
  /** Whether it holds something: then the next source adds. */
  written: boolean;
  /** Made here, so that it may be handed on once its tensor's own node has read it; not a caller's. */
  readonly own: boolean;
}

export class Gradients {
  private readonly known = new Map<Tensor, Gradient>();

  constructor(private readonly b: GraphBuilder) {}

  /** A gradient that lies in a tensor of the caller's. */
  give(t: Tensor, tensor: Tensor, written: boolean): void {
    this.known.set(t, { tensor, written, own: false });
  }

  of(t: Tensor): Gradient {
    let g = this.known.get(t);
    if (!g) this.known.set(t, (g = { tensor: this.temporary(t), written: false, own: true }));
    return g;
  }

  /** A tensor for a gradient that is added to another, or that nobody needs. */
  temporary(t: Tensor): Tensor {
    return this.b.tensor(`d.${t.name}`, t.shape, t.dtype);
  }

  /** Null while nothing has been written. */
  written(t: Tensor | null): Tensor | null {
    const g = t && this.known.get(t);
    return g?.written ? g.tensor : null;
  }

  /** Makes the gradient of `from`, which nobody reads any more, that of `to`; false where that cannot be. */
  handOn(from: Tensor, to: Tensor): boolean {
    const g = this.known.get(from);
    if (!g?.own || this.known.has(to) || from.dtype !== to.dtype) return false;
    this.known.set(to, { ...g });
    return true;
  }

  /** Tensors whose gradients hold something. */
  reached(): Tensor[] {
    return [...this.known].filter(([, g]) => g.written).map(([t]) => t);
  }
}
