/**
 * Recomputation: forward nodes of given scopes run again right before their first backward reader, so that their results
 * need not live in between. What leaves a scope is kept, and so are statistics and packed weights; everything else of it
 * is computed twice from the same numbers by the same kernels, so the bits are the same. A pass over a finished graph, to
 * be run before `compile`: fusion, sharing and the memory plan see one list of nodes, as ever.
 *
 * Source: Chen et al., Training Deep Nets with Sublinear Memory Cost, arXiv 1604.06174.
 */
import { MaclError } from '../errors.js';
import { kernelDef, readsOutput } from './kernel.js';
import { tensorsOverlap } from './regions.js';
import { placeOf } from './shape.js';
import type { Graph, Node, Tensor } from './types.js';

/**
 * @param scopes names within the scopes of nodes, e.g. `encoder.blocks.0`: every pass through it is a part of its own,
 * and what it gives to others is kept. Of names within each other the longest counts.
 * @throws MaclError `config` where no forward node lies in a scope
 */
export function recompute(graph: Graph, scopes: readonly string[]): Graph {
  const part = partsOf(graph.nodes, scopes);
  const makers = makersOf(graph.nodes, part);
  const inner = innerTensors(graph.nodes, part, makers);
  const tensors = [...graph.tensors];
  const nodes: Node[] = [];
  const again = new Map<Tensor, Tensor>();
  let nextTensor = 1 + Math.max(-1, ...tensors.map((t) => t.id));
  let nextNode = 1 + Math.max(-1, ...graph.nodes.map((n) => n.id));

  const copyOf = (t: Tensor): Tensor => {
    const { view, ...plain } = t;
    const copy: Tensor = { ...plain, id: nextTensor++ };
    if (view) copy.view = { ...view, of: again.get(view.of) ?? view.of };
    tensors.push(copy);
    return copy;
  };
  /** The tensor's value at this place of the list, computed again the first time that it is asked for. */
  const valueOf = (t: Tensor): Tensor => {
    if (!inner.has(t)) return t;
    const known = again.get(t);
    if (known) return known;
    const maker = makers.get(t) as Node;
    const inputs = maker.inputs.map((i) => i && valueOf(i));
    const outputs = maker.outputs.map((o) => {
      const copy = o && copyOf(o);
      if (o && copy) again.set(o, copy);
      return copy;
    });
    nodes.push({ ...maker, id: nextNode++, inputs, outputs, again: maker });
    return again.get(t) as Tensor;
  };
  for (const node of graph.nodes)
    nodes.push(node.forward ? { ...node, inputs: node.inputs.map((t) => t && valueOf(t)) } : node);
  return { ...graph, nodes, tensors };
}

/** Which part (the scope from its beginning to the end of a given name) a forward node lies in. */
function partsOf(nodes: readonly Node[], scopes: readonly string[]): ReadonlyMap<Node, string> {
  const names = [...scopes].sort((a, b) => b.length - a.length);
  const parts = new Map<Node, string>();
  const found = new Set<string>();
  for (const node of nodes) {
    if (node.commit || node.forward) continue;
    const dotted = `.${node.scope}.`;
    const within = names.filter((name) => dotted.includes(`.${name}.`));
    for (const name of within) found.add(name);
    const [name] = within;
    if (name !== undefined) parts.set(node, dotted.slice(1, dotted.indexOf(`.${name}.`) + 1 + name.length));
  }
  const lost = scopes.find((name) => !found.has(name));
  if (lost !== undefined)
    throw new MaclError('config', `recompute: nothing is computed in the scope ${JSON.stringify(lost)}`, {
      field: 'recompute',
      found: lost,
    });
  return parts;
}

/** The node that makes a tensor, for those that may run again: alone, from inputs that are still what they were. */
function makersOf(nodes: readonly Node[], part: ReadonlyMap<Node, string>): ReadonlyMap<Tensor, Node> {
  const writers = new Map<Tensor, number>();
  const writes = new Map<Tensor, { at: number; t: Tensor }[]>();
  nodes.forEach((n, at) => {
    if (n.commit || kernelDef(n.kernel).alias) return;
    for (const t of n.outputs) {
      if (!t) continue;
      const { root } = placeOf(t);
      writers.set(t, (writers.get(t) ?? 0) + 1);
      writes.set(root, [...(writes.get(root) ?? []), { at, t }]);
    }
  });
  const changedAfter = (at: number, t: Tensor) =>
    writes.get(placeOf(t).root)?.some((w) => w.at > at && tensorsOverlap(w.t, t)) ?? false;
  const makers = new Map<Tensor, Node>();
  for (const [at, node] of nodes.entries()) {
    if (!part.has(node) || node.inputs.some((t) => t && changedAfter(at, t))) continue;
    const def = kernelDef(node.kernel);
    const free = node.outputs.every((t, i) => {
      if (!t) return true;
      const name = def.outputs[i]?.name ?? '';
      if (t.opaque) return name === 'ws';
      const own = def.alias ? t.view?.of === node.inputs[0] : !t.view;
      const once = def.alias || writers.get(t) === 1;
      return own && once && t.segment === 'scratch' && !t.keep && !readsOutput(node, name);
    });
    if (free && !def.lossGrad && !def.once) for (const t of node.outputs) if (t && !t.opaque) makers.set(t, node);
  }
  return makers;
}

/** Tensors that only their own part reads in the forward pass: these need not live until the backward pass. */
function innerTensors(
  nodes: readonly Node[],
  part: ReadonlyMap<Node, string>,
  makers: ReadonlyMap<Tensor, Node>,
): ReadonlySet<Tensor> {
  const inner = new Set(makers.keys());
  for (const node of nodes) {
    if (node.forward) continue;
    for (const t of node.inputs) {
      const maker = t && makers.get(t);
      if (t && maker && part.get(maker) !== part.get(node)) inner.delete(t);
    }
  }
  // What a kept view looks at lives anyway.
  for (const node of [...part.keys()].reverse()) {
    const [y] = node.outputs;
    const [x] = node.inputs;
    if (kernelDef(node.kernel).alias && x && y && !inner.has(y)) inner.delete(x);
  }
  return inner;
}
