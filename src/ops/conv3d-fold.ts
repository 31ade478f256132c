/**
 * Of a network that is only evaluated: a norm with given statistics becomes part of the convolution before it, w' = s·w and
 * b' = s·(b − mean) + β with s = γ/√(var + eps) for each output, and the activation its epilogue. The same function within
 * rounding; the weights are folded once, where they are loaded (`src/model/fold.ts`).
 */
import { cloneGraph } from '../graph/clone.js';
import { port, required } from '../graph/kernel.js';
import type { Graph, Node, Tensor } from '../graph/types.js';

/** What a convolution's weights and bias are folded with: all of them parts of the state. */
export interface FoldedNorm {
  readonly w: Tensor;
  readonly b: Tensor;
  readonly mean: Tensor;
  readonly var: Tensor;
  readonly gamma: Tensor | null;
  readonly beta: Tensor | null;
  readonly eps: number;
}

/** `norm` of normact_fwd (native/ops/normact.h). */
const [NO_NORM, GIVEN_NORM] = [0, 2];

/** @returns a graph for folded weights, and what to fold them with */
export function foldNorms(given: Graph): { readonly graph: Graph; readonly norms: readonly FoldedNorm[] } {
  const graph = cloneGraph(given);
  const producer = new Map<Tensor, Node>();
  const readers = new Map<Tensor, number>();
  for (const node of graph.nodes) {
    for (const t of node.outputs) if (t) producer.set(t, node);
    for (const t of node.inputs)
      for (let at = t; at; at = at.view?.of ?? null) readers.set(at, (readers.get(at) ?? 0) + 1);
  }
  const alone = (t: Tensor | null) => t !== null && readers.get(t) === 1;
  const norms: FoldedNorm[] = [];
  /** By convolution: what takes its place. */
  const folded = new Map<Node, Node>();
  const gone = new Set<Node>();
  for (const node of graph.nodes) {
    const { norm, slope = 0, eps = 0, sd, sh, sw } = node.attrs;
    if (node.kernel !== 'normact_fwd' || port(node, 'pooled') || sd !== 1 || sh !== 1 || sw !== 1) continue;
    const x = required(node, 'x');
    const conv = producer.get(x);
    if (conv?.kernel !== 'conv3d_fwd' || !alone(x) || x.view || x.segment !== 'scratch') continue;
    if (conv.attrs['stats'] !== 0 || conv.attrs['act'] !== 0) continue;
    if (norm === GIVEN_NORM) {
      const b = port(conv, 'b');
      const wp = required(conv, 'wp');
      const w = port(producer.get(wp) as Node, 'w');
      const [mean, variance] = [required(node, 'mean'), required(node, 'var')];
      const ours = w?.view?.of.segment === 'state' && b?.view?.of.segment === 'state' && alone(w) && alone(b);
      if (!ours || !alone(wp) || mean.shape[0] !== x.shape[4]) continue;
      norms.push({ w, b, mean, var: variance, gamma: port(node, 'gamma'), beta: port(node, 'beta'), eps });
    } else if (norm !== NO_NORM) continue;
    const outputs = conv.outputs.map((t) => (t === x ? required(node, 'y') : t));
    folded.set(conv, { ...conv, outputs, attrs: { ...conv.attrs, act: slope === 1 ? 0 : 1, slope } });
    gone.add(node);
  }
  const nodes = graph.nodes.filter((n) => !gone.has(n)).map((n) => folded.get(n) ?? n);
  return { graph: { ...graph, nodes }, norms };
}
