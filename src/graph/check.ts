/**
 * A checker over graphs and memory plans, for tests and for debugging a new pass: every tensor is written before it is
 * read, commit nodes come last and alone write state, no two live buffers share a byte, dtypes and sizes make sense.
 * It returns what is wrong as sentences; an empty list is a sound graph.
 */
import { kernelDef, readsOutput } from './kernel.js';
import type { MemoryPlan } from './plan.js';
import { bytesOf, placeOf, sizeOf } from './shape.js';
import type { Graph, Tensor } from './types.js';

export function checkGraph(graph: Graph): string[] {
  const wrong: string[] = [];
  const written = new Set<Tensor>();
  const known = (t: Tensor) => {
    const { root } = placeOf(t);
    return root.segment !== 'scratch' || written.has(t) || written.has(root);
  };
  let commit = false;
  graph.nodes.forEach((node, i) => {
    const at = `node ${i} (${node.kernel} at ${node.scope})`;
    const def = kernelDef(node.kernel);
    if (commit && !node.commit) wrong.push(`${at} computes after the commit phase began`);
    commit ||= node.commit;
    node.inputs.forEach((t, k) => {
      const name = def.inputs[k]?.name;
      if (!t) {
        if (!def.inputs[k]?.optional) wrong.push(`${at} lacks ${name}`);
      } else if (!known(t) && !partsWritten(t, written))
        wrong.push(`${at} reads ${name} (${t.name}) before it is written`);
    });
    node.outputs.forEach((t, k) => {
      const name = def.outputs[k]?.name ?? '';
      if (!t) {
        if (!def.outputs[k]?.optional) wrong.push(`${at} lacks ${name}`);
        return;
      }
      const { root } = placeOf(t);
      if (readsOutput(node, name) && !known(t)) wrong.push(`${at} adds into ${name} (${t.name}) before it is written`);
      if (root.segment === 'state' && !node.commit) wrong.push(`${at} writes state in the compute phase`);
      if (root.segment === 'store') wrong.push(`${at} writes into the store`);
      written.add(t);
    });
  });
  for (const t of graph.tensors) {
    const { root, offset, ld } = placeOf(t);
    if (root === t) continue;
    if (root.dtype !== t.dtype) wrong.push(`${t.name} (${t.dtype}) lies in ${root.name} (${root.dtype})`);
    const last = offset + (sizeOf(t.shape) / t.shape[4] - 1) * ld + t.shape[4];
    if (last > sizeOf(root.shape)) wrong.push(`${t.name} reaches past the end of ${root.name}`);
  }
  return wrong;
}

/** A whole tensor counts as written once slices of it cover all its channels (concatenation without a copy). */
function partsWritten(t: Tensor, written: ReadonlySet<Tensor>): boolean {
  let channels = 0;
  let elements = 0;
  for (const part of written) {
    if (part.view?.of !== t) continue;
    if (part.view.dense) elements += sizeOf(part.shape);
    else channels += part.shape[4];
  }
  return channels >= t.shape[4] || elements >= sizeOf(t.shape);
}

export function checkPlan(plan: MemoryPlan): string[] {
  const wrong: string[] = [];
  const { lives } = plan;
  lives.forEach((a, i) => {
    const start = plan.offsets.get(a.tensor);
    if (start === undefined) return void wrong.push(`${a.tensor.name} was not placed`);
    if (start + bytesOf(a.tensor) > plan.scratchBytes) wrong.push(`${a.tensor.name} reaches past the scratch segment`);
    for (const b of lives.slice(i + 1)) {
      const other = plan.offsets.get(b.tensor) ?? 0;
      const alive = a.first <= b.last && b.first <= a.last;
      const overlap = start < other + bytesOf(b.tensor) && other < start + bytesOf(a.tensor);
      if (alive && overlap) wrong.push(`${a.tensor.name} and ${b.tensor.name} are alive together and overlap`);
    }
  });
  return wrong;
}
