/**
 * Which tensors depend on the targets of a differentiation. Views that nodes make (`ops/views.ts`) are followed both ways;
 * tensors that only lie in the same memory are not connected, so what they would cut is named.
 */
import { MaclError } from '../errors.js';
import type { GraphBuilder } from './builder.js';
import { kernelDef, readsOutput, stop } from './kernel.js';
import { tensorsOverlap } from './regions.js';
import { placeOf } from './shape.js';
import type { Node, Tensor } from './types.js';

export interface Dependents {
  /** Everything that depends on a target, the targets included. */
  readonly wanted: ReadonlySet<Tensor>;
  /** Tensors that share memory with what depends on a target, without a node that says how, and that other tensor. */
  readonly tangled: ReadonlyMap<Tensor, Tensor>;
}

export function dependents(b: GraphBuilder, nodes: readonly Node[], targets: Iterable<Tensor>): Dependents {
  const wanted = new Set<Tensor>(targets);
  const tangled = new Map<Tensor, Tensor>();
  const written = new Map<Tensor, Tensor[]>();
  const remember = (t: Tensor): void => {
    const { root } = placeOf(t);
    const list = written.get(root);
    if (!list) written.set(root, [t]);
    else if (!list.includes(t)) list.push(t);
  };
  const overlapping = (t: Tensor, which: (other: Tensor) => boolean): Tensor | undefined =>
    written.get(placeOf(t).root)?.find((other) => which(other) && tensorsOverlap(other, t));

  for (const t of wanted) remember(t);
  for (const node of nodes) {
    const def = kernelDef(node.kernel);
    if (node.commit || def.alias) continue;
    let depends = false;
    for (const t of node.inputs) {
      if (!t) continue;
      const { views, base, stopped } = viewsOf(b, t);
      if (stopped) continue;
      if (!views.some((v) => wanted.has(v))) {
        const other = overlapping(t, (o) => viewsOf(b, o).base !== base);
        if (!other) continue;
        tangled.set(t, other);
      }
      wanted.add(t);
      depends = true;
    }
    node.outputs.forEach((t, i) => {
      if (!t) return;
      if (!node.forward) {
        const adds = readsOutput(node, def.outputs[i]?.name ?? '');
        const { base } = viewsOf(b, t);
        const hit = overlapping(t, (o) => !b.producer(o)?.forward && !(adds && viewsOf(b, o).base === base));
        if (hit)
          throw new MaclError(
            'program',
            `${node.kernel} at ${node.scope} writes over ${hit.name}, which gradients have to pass`,
            { field: hit.name },
          );
      }
      if (!depends) return;
      if (placeOf(t).root.segment === 'state')
        throw new MaclError('program', `${node.kernel} writes state in the compute phase`);
      for (const v of viewsOf(b, t).views) wanted.add(v);
      remember(t);
    });
  }
  return { wanted, tangled };
}

/** A tensor, what it is a view of, and so on to the tensor that no node made as a view; `stopped`: by a detach. */
function viewsOf(b: GraphBuilder, t: Tensor): { views: Tensor[]; base: Tensor; stopped: boolean } {
  const views = [t];
  let stopped = false;
  for (let base = t; ; views.push(base)) {
    const maker = b.producer(base);
    const def = maker && kernelDef(maker.kernel);
    if (!def?.alias) return { views, base, stopped };
    stopped ||= def.gradient === stop;
    base = maker?.inputs[0] as Tensor;
  }
}
