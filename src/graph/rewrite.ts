/** What passes that rewrite lists of nodes have in common: other outputs for a node, and joining two nodes in one. */
import { kernelDef, readsOutput } from './kernel.js';
import { tensorsOverlap } from './regions.js';
import type { Node, Tensor } from './types.js';

/** A node with some outputs replaced, by name. */
export function withPorts(node: Node, change: Partial<Node>, outputs: Readonly<Record<string, Tensor | null>>): Node {
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

/** `joined` does what two nodes did, where the later one stood. */
export interface Join {
  readonly earlier: Node;
  readonly later: Node;
  readonly joined: Node;
}

interface Step {
  /** What is placed; null for a join's earlier node, which only stands for what it reads and writes. */
  readonly node: Node | null;
  readonly join?: Join;
  readonly reads: readonly Tensor[];
  readonly writes: readonly Tensor[];
}

function stepOf(effects: Node, node: Node | null, join?: Join): Step {
  const def = kernelDef(effects.kernel);
  const writes = effects.outputs.filter((t) => t !== null);
  const reads = effects.inputs.filter((t) => t !== null);
  effects.outputs.forEach((t, i) => {
    if (t && readsOutput(effects, def.outputs[i]?.name ?? '')) reads.push(t);
  });
  return { node, reads, writes, ...(join ? { join } : {}) };
}

/** Whether two steps must keep their order: one writes what the other reads or writes, views followed. */
function conflict(a: Step, b: Step): boolean {
  const meet = (xs: readonly Tensor[], ys: readonly Tensor[]) => xs.some((x) => ys.some((y) => tensorsOverlap(x, y)));
  return meet(a.writes, b.reads) || meet(a.writes, b.writes) || meet(a.reads, b.writes);
}

/**
 * Puts each `joined` where its later node stood, and moves behind it whatever stood between the two and has to wait for
 * it; all else keeps its order. A join whose later node needs what the earlier one computes is left out.
 */
export function joinNodes(nodes: readonly Node[], wanted: readonly Join[]): readonly Node[] {
  const joins = wanted.filter((j) => !readsOwn(j));
  if (joins.length === 0) return nodes;
  const { order, stuck } = arrange(nodes, joins);
  return stuck.size === 0
    ? order
    : joinNodes(
        nodes,
        joins.filter((j) => !stuck.has(j)),
      );
}

/** The later node reads, beside what the joined one no longer needs, a result of the earlier one. */
function readsOwn({ earlier, joined }: Join): boolean {
  return joined.inputs.some((t) => t && earlier.outputs.some((o) => o && tensorsOverlap(o, t)));
}

function arrange(nodes: readonly Node[], joins: readonly Join[]): { order: Node[]; stuck: ReadonlySet<Join> } {
  const earlier = new Map(joins.map((j) => [j.earlier, j]));
  const later = new Map(joins.map((j) => [j.later, j]));
  const order: Node[] = [];
  let waiting: Step[] = [];
  const own = (w: Step, s: Step) => w.node === null && w.join === s.join;
  const blocked = (s: Step, before: readonly Step[]) => before.some((w) => !own(w, s) && conflict(w, s));
  const place = (s: Step): void => {
    if (s.node) order.push(s.node);
    if (s.join) waiting = waiting.filter((w) => !own(w, s));
  };
  for (const node of nodes) {
    const first = earlier.get(node);
    if (first) {
      waiting.push(stepOf(node, null, first));
      continue;
    }
    const join = later.get(node);
    // What the later node itself reads and writes: the earlier one's results may come as late as here.
    const step = stepOf(node, join?.joined ?? node, join);
    if (blocked(step, waiting)) {
      waiting.push(step);
      continue;
    }
    place(step);
    if (!join) continue;
    for (;;) {
      const i = waiting.findIndex((w, k) => w.node !== null && !blocked(w, waiting.slice(0, k)));
      if (i < 0) break;
      const [next] = waiting.splice(i, 1);
      place(next as Step);
    }
  }
  return { order, stuck: new Set(waiting.flatMap((w) => w.join ?? [])) };
}
