/**
 * Fusion as the backend asks for it. Each pass takes a graph and gives a new list of nodes with the same results; the
 * unfused graph always runs, so tests hold one against the other. Tensors are shared; views are set on them.
 */
import type { Fusion } from '../backend/types.js';
import { kernelDef, port, readsOutput, required } from './kernel.js';
import type { Graph, Node, Tensor } from './types.js';

export function fuse(graph: Graph, wanted: ReadonlySet<Fusion>): Graph {
  let { nodes } = graph;
  if (wanted.has('conv-stats')) nodes = fuseStatistics(nodes);
  if (wanted.has('normact-pool')) nodes = fusePooling(nodes);
  if (wanted.has('concat')) nodes = removeConcat(nodes);
  if (wanted.has('loss-grad')) nodes = fuseLosses(nodes);
  return { ...graph, nodes };
}

function withPorts(node: Node, change: Partial<Node>, outputs: Readonly<Record<string, Tensor | null>>): Node {
  const def = kernelDef(node.kernel);
  return {
    ...node,
    ...change,
    outputs: node.outputs.map((t, i) => {
      const name = def.outputs[i]?.name ?? '';
      return name in outputs ? (outputs[name] ?? null) : t;
    }),
  };
}

/** conv3d_fwd … normact_stats of its result → the convolution writes mean and variance itself. */
function fuseStatistics(nodes: readonly Node[]): readonly Node[] {
  const producer = new Map<Tensor, number>();
  const out: (Node | null)[] = [];
  for (const node of nodes) {
    const at = node.kernel === 'normact_stats' ? producer.get(required(node, 'x')) : undefined;
    const conv = at === undefined ? null : out[at];
    if (at !== undefined && conv?.kernel === 'conv3d_fwd' && !port(conv, 'mean') && conv.attrs['act'] === 0) {
      const ports = { mean: port(node, 'mean'), var: port(node, 'var') };
      out[at] = withPorts(conv, { attrs: { ...conv.attrs, stats: 1 } }, ports);
      continue;
    }
    for (const t of node.outputs) if (t) producer.set(t, out.length);
    out.push(node);
  }
  return out.filter((n) => n !== null);
}

/** normact_fwd … maxpool3d_fwd of its result → the pooled tensor is written in the same pass. */
function fusePooling(nodes: readonly Node[]): readonly Node[] {
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
}

/**
 * concat_fwd(a, b) → y: a and b are written straight into their channels of y; concat_bwd: the gradients of a and b are
 * slices of y's. Only where each part is an ordinary scratch tensor that lies nowhere else yet.
 */
function removeConcat(nodes: readonly Node[]): readonly Node[] {
  const free = (t: Tensor) => !t.view && t.segment === 'scratch' && !t.keep;
  return nodes.filter((node) => {
    const forward = node.kernel === 'concat_fwd';
    if (!forward && node.kernel !== 'concat_bwd') return true;
    const [whole, first, second] = forward
      ? [required(node, 'y'), required(node, 'a'), required(node, 'b')]
      : [required(node, 'dy'), required(node, 'da'), required(node, 'db')];
    if (whole.view || first === second || !free(first) || !free(second)) return true;
    first.view = { of: whole, offset: 0, dense: false };
    second.view = { of: whole, offset: first.shape[4], dense: false };
    return false;
  });
}

/** A loss's forward and backward kernel → one that does both, where the backward one stood. */
function fuseLosses(nodes: readonly Node[]): readonly Node[] {
  const out: (Node | null)[] = [...nodes];
  nodes.forEach((fwd, i) => {
    const { lossGrad } = kernelDef(fwd.kernel);
    if (!lossGrad) return;
    const def = kernelDef(lossGrad.fused);
    const j = nodes.findIndex((n) => n.kernel === lossGrad.bwd && n.forward?.id === fwd.id);
    const bwd = nodes[j];
    if (!bwd) return;
    const find = (name: string): Tensor | null => {
      for (const n of [bwd, fwd]) {
        const d = kernelDef(n.kernel);
        if ([...d.inputs, ...d.outputs].some((p) => p.name === name)) return port(n, name);
      }
      return null;
    };
    const ws = port(fwd, 'ws');
    out[i] = null;
    out[j] = {
      ...bwd,
      kernel: lossGrad.fused,
      inputs: def.inputs.map((p) => find(p.name)),
      outputs: def.outputs.map((p) => (p.name === 'ws' ? ws : find(p.name))),
    };
  });
  return afterProducers(out.filter((n) => n !== null));
}

/** Moves nodes that read what is now written later behind its writer; all else keeps its order. */
function afterProducers(nodes: readonly Node[]): readonly Node[] {
  const pending = new Map<Tensor, number>();
  for (const n of nodes) for (const t of n.outputs) if (t) pending.set(t, (pending.get(t) ?? 0) + 1);
  const firstWriterDone = new Set<Tensor>();
  const out: Node[] = [];
  let waiting: Node[] = [];
  const ready = (n: Node) => n.inputs.every((t) => !t || !pending.has(t) || firstWriterDone.has(t));
  const place = (n: Node) => {
    out.push(n);
    n.outputs.forEach((t) => t && firstWriterDone.add(t));
  };
  for (const node of nodes) {
    if (!ready(node) && !hasStateOutput(node)) {
      waiting.push(node);
      continue;
    }
    place(node);
    for (let moved = true; moved;) {
      moved = false;
      const next = waiting.find(ready);
      if (next) {
        waiting = waiting.filter((n) => n !== next);
        place(next);
        moved = true;
      }
    }
  }
  return [...out, ...waiting];
}

/** In-place nodes read what they write, so their own outputs never make them wait. */
function hasStateOutput(node: Node): boolean {
  return kernelDef(node.kernel).outputs.some((p) => readsOutput(node, p.name)) && node.commit;
}
