/**
 * bf16 on a backend that has none: tensors that are declared bf16 are held in the backend's own wider dtype, and are rounded
 * right where a backend of bf16 would store them. So numbers are those of bf16 storage with exact arithmetic between stores,
 * which backends of bf16 are held to (docs/step.md).
 *
 * Rounded are inputs, what each kernel writes or adds to, and weights where a kernel multiplies them in bf16. What only
 * moves numbers (concat, max-pooling) needs no second rounding. It goes before fusion, so that no fused kernel reads what it
 * has not stored: a statistic in a convolution's epilogue is that of the rounded values.
 */
import { decode, encode } from './codec.js';
import { kernelDef } from './kernel.js';
import { tensorsOverlap } from './regions.js';
import { DTYPES, type DType, type Graph, type Node, type Tensor } from './types.js';

const NARROW: DType = 'bf16';

/**
 * @param graph the compiler's own copy, whose tensors change
 * @param wide what narrow tensors are held in instead
 */
export function roundNarrow(graph: Graph, wide: DType): Graph {
  const narrow = new Set(graph.tensors.filter((t) => t.dtype === NARROW && !t.opaque && t.segment !== 'store'));
  // By the dtypes that were declared, so before any of them changes.
  const narrowed = new Map<Node, string>();
  for (const node of graph.nodes) {
    const wanted = kernelDef(node.kernel).narrows?.(node);
    if (wanted?.to === NARROW) narrowed.set(node, wanted.input);
  }
  if (narrow.size === 0 && narrowed.size === 0) return graph;
  const tensors = [...graph.tensors];
  const nodes: Node[] = [];
  let nextNode = Math.max(-1, ...graph.nodes.map((n) => n.id)) + 1;
  let nextTensor = Math.max(-1, ...tensors.map((t) => t.id)) + 1;
  const round = (x: Tensor, y: Tensor, like: Pick<Node, 'scope' | 'commit'>): void => {
    const { scope, commit } = like;
    const attrs = { dtype: DTYPES[NARROW] };
    nodes.push({ id: nextNode++, kernel: 'round_fwd', attrs, inputs: [x], outputs: [y], commit, scope });
  };

  for (const t of narrow) {
    (t as { dtype: DType }).dtype = wide;
    if (t.constant) t.constant = encode(wide, decode(NARROW, t.constant), t.name).slice();
    if (t.given === 'input') round(t, t, { scope: 'input', commit: false });
  }

  /** Weights as they are multiplied: rounded once, until they change. */
  const rounded = new Map<Tensor, Tensor>();
  const roundedCopy = (t: Tensor, node: Node): Tensor => {
    const known = rounded.get(t);
    if (known) return known;
    const { shape } = t;
    const copy: Tensor = {
      id: nextTensor++,
      name: `${t.name}.${NARROW}`,
      shape,
      dtype: wide,
      segment: 'scratch',
      opaque: false,
    };
    tensors.push(copy);
    rounded.set(t, copy);
    round(t, copy, node);
    return copy;
  };

  for (const node of graph.nodes) {
    const def = kernelDef(node.kernel);
    const input = narrowed.get(node);
    const inputs = node.inputs.map((t, i) => (t && def.inputs[i]?.name === input ? roundedCopy(t, node) : t));
    const attrs = node.attrs['dtype'] === DTYPES[NARROW] ? { ...node.attrs, dtype: DTYPES[wide] } : node.attrs;
    nodes.push({ ...node, inputs, attrs });
    for (const t of node.outputs) {
      if (!t) continue;
      for (const from of rounded.keys()) if (tensorsOverlap(from, t)) rounded.delete(from);
      if (narrow.has(t) && !def.exact) round(t, t, node);
    }
  }
  return { ...graph, nodes, tensors };
}
