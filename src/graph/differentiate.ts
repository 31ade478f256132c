/**
 * Reverse-mode differentiation by graph rewriting: walks the nodes backwards and lets each kernel's gradient rule append
 * its backward kernels. A gradient that has several sources is written by the first and added into by the others.
 */
import { MaclError } from '../errors.js';
import type { GraphBuilder } from './builder.js';
import { kernelDef, port, required, type GradientContext } from './kernel.js';
import { placeOf } from './shape.js';
import type { Node, Tensor } from './types.js';

interface Gradient {
  readonly tensor: Tensor;
  written: boolean;
}

/**
 * Appends the backward pass of `loss` (a float64 scalar).
 * @param targets tensors whose gradients are wanted, and where each goes
 * @returns nothing: the given gradient tensors are written, zero where the loss does not depend on a target
 */
export function differentiate(b: GraphBuilder, loss: Tensor, targets: ReadonlyMap<Tensor, Tensor>): void {
  const forward = [...b.nodes];
  const wanted = dependents(forward, targets);
  const gradients = new Map<Tensor, Gradient>();
  for (const [t, tensor] of targets) gradients.set(t, { tensor, written: false });

  const seed = b.scalar('dloss');
  b.emit('fill_fwd', { value: 1 }, {}, { y: seed });
  gradients.set(loss, { tensor: seed, written: true });

  for (const node of forward.reverse()) {
    const rule = kernelDef(node.kernel).gradient;
    if (node.commit || !rule) continue;
    if (!node.outputs.some((t) => t && gradients.get(t)?.written)) continue;
    b.within(node.scope === '' ? 'backward' : node.scope, () => rule(context(b, node, wanted, gradients)));
  }
  for (const g of targets.keys()) {
    const gradient = gradients.get(g) as Gradient;
    if (!gradient.written) b.emit('fill_fwd', { value: 0 }, {}, { y: gradient.tensor });
  }
}

function context(
  b: GraphBuilder,
  node: Node,
  wanted: ReadonlySet<Tensor>,
  gradients: Map<Tensor, Gradient>,
): GradientContext {
  const gradientOf = (t: Tensor): Gradient => {
    let g = gradients.get(t);
    if (!g) gradients.set(t, (g = { tensor: b.tensor(`d.${t.name}`, t.shape, t.dtype), written: false }));
    return g;
  };
  return {
    b,
    node,
    input: (name) => required(node, name),
    optional: (name) => port(node, name),
    output: (name) => required(node, name),
    dout(name) {
      const t = port(node, name);
      const g = t ? gradients.get(t) : undefined;
      return g?.written ? g.tensor : null;
    },
    needs: (t) => t !== null && wanted.has(t),
    sinks(tensors) {
      const sinks = tensors.map(gradientOf);
      const accumulate = sinks.some((s) => s.written) ? 1 : 0;
      for (const s of sinks) {
        if (accumulate && !s.written) b.emit('fill_fwd', { value: 0 }, {}, { y: s.tensor });
        s.written = true;
      }
      return { tensors: sinks.map((s) => s.tensor), accumulate };
    },
  };
}

/** All tensors that depend on a target, the targets included. */
function dependents(nodes: readonly Node[], targets: ReadonlyMap<Tensor, Tensor>): ReadonlySet<Tensor> {
  const set = new Set<Tensor>(targets.keys());
  for (const node of nodes) {
    if (node.commit || !node.inputs.some((t) => t && set.has(t))) continue;
    for (const t of node.outputs) {
      if (!t) continue;
      if (placeOf(t).root.segment === 'state')
        throw new MaclError('program', `${node.kernel} writes state in the compute phase`);
      set.add(t);
    }
  }
  return set;
}
