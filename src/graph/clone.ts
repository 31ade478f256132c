/** A copy of a graph that passes may change: tensors and nodes are new, state (which graphs share) is the same. */
import type { Graph, Node, Tensor } from './types.js';

export function cloneGraph(graph: Graph): Graph {
  const mine = new Set(graph.tensors);
  const tensors = new Map<Tensor, Tensor>();
  const tensor = (t: Tensor): Tensor => {
    if (!mine.has(t)) return t;
    let copy = tensors.get(t);
    if (!copy) {
      copy = t.view ? { ...t, view: { ...t.view, of: tensor(t.view.of) } } : { ...t };
      tensors.set(t, copy);
    }
    return copy;
  };
  const nodes = new Map<Node, Node>();
  const node = (n: Node): Node => {
    let copy = nodes.get(n);
    if (!copy) {
      const list = (ts: Node['inputs']) => ts.map((t) => t && tensor(t));
      copy = { ...n, inputs: list(n.inputs), outputs: list(n.outputs) };
      if (n.forward) copy = { ...copy, forward: node(n.forward) };
      if (n.again) copy = { ...copy, again: node(n.again) };
      nodes.set(n, copy);
    }
    return copy;
  };
  return {
    nodes: graph.nodes.map(node),
    tensors: graph.tensors.map(tensor),
    guard: graph.guard && tensor(graph.guard),
  };
}
