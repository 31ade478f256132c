/**
 * What a graph and a memory plan must hold, looked at in every `compile`: every tensor is written before it is read and
 * still holds what it was given, every result has a writer, constants stay, commit nodes come last and alone write state,
 * no two live buffers share a byte, dtypes and sizes make sense. It returns what is wrong as sentences; an empty list is
 * a sound graph.
 */
import { kernelDef, readsOutput } from './kernel.js';
import type { Life, MemoryPlan } from './plan.js';
import { regionOf, uncovered, type Region } from './regions.js';
import { bytesOf, placeOf, sizeOf } from './shape.js';
import type { Graph, Node, Tensor } from './types.js';

/** What has been written of one buffer. */
interface Written {
  readonly tensors: Set<Tensor>;
  readonly regions: Map<string, Region>;
  whole: boolean;
  /** Whose values lie there: a tensor that took another's place, or the buffer itself. */
  owner: Tensor;
}

export function checkGraph(graph: Graph): string[] {
  const wrong: string[] = [];
  const buffers = new Map<Tensor, Written>();
  let commit = false;
  graph.nodes.forEach((node, i) => {
    const def = kernelDef(node.kernel);
    if (def.alias) return;
    const at = `node ${i} (${node.kernel} at ${node.scope})`;
    if (commit && !node.commit) wrong.push(`${at} computes after the commit phase began`);
    commit ||= node.commit;
    node.inputs.forEach((t, k) => {
      const name = def.inputs[k]?.name;
      if (t) readable(buffers, t, `${at} reads ${name} (${t.name})`, wrong);
      else if (!def.inputs[k]?.optional) wrong.push(`${at} lacks ${name}`);
    });
    node.outputs.forEach((t, k) => {
      const name = def.outputs[k]?.name ?? '';
      if (t) writable(buffers, node, t, name, at, wrong);
      else if (!def.outputs[k]?.optional) wrong.push(`${at} lacks ${name}`);
    });
  });
  for (const t of graph.tensors) checkTensor(t, buffers, wrong);
  if (graph.guard) {
    readable(buffers, graph.guard, `the guard (${graph.guard.name}) is read`, wrong);
    if (graph.guard.dtype !== 'i32' || sizeOf(graph.guard.shape) !== 1) wrong.push('the guard is no int32 scalar');
  }
  return wrong;
}

function readable(buffers: ReadonlyMap<Tensor, Written>, t: Tensor, what: string, wrong: string[]): void {
  const { root } = placeOf(t);
  if (!mustBeWritten(root)) return;
  const buffer = buffers.get(root);
  if (!buffer || !covers(buffer, t)) wrong.push(`${what} before it is written`);
  else if (buffer.owner !== ownerOf(t)) wrong.push(`${what} after ${buffer.owner.name} took its place`);
}

function writable(
  buffers: Map<Tensor, Written>,
  node: Node,
  t: Tensor,
  name: string,
  at: string,
  wrong: string[],
): void {
  const { root } = placeOf(t);
  const adds = readsOutput(node, name);
  if (adds) readable(buffers, t, `${at} adds into ${name} (${t.name})`, wrong);
  if (root.segment === 'state' && !node.commit) wrong.push(`${at} writes state in the compute phase`);
  if (root.segment === 'store') wrong.push(`${at} writes into the store`);
  if (root.given === 'constant') wrong.push(`${at} writes over the constant ${root.name}`);
  let buffer = buffers.get(root);
  if (!buffer) buffers.set(root, (buffer = { tensors: new Set(), regions: new Map(), whole: false, owner: root }));
  buffer.owner = ownerOf(t);
  if (buffer.tensors.has(t)) return;
  buffer.tensors.add(t);
  if (t.opaque || root === t) buffer.whole = true;
  else {
    const r = regionOf(t);
    buffer.regions.set(`${r.start},${r.rows},${r.length},${r.ld}`, r);
  }
}

/** State, the store and what is given hold something from outside. */
function mustBeWritten(root: Tensor): boolean {
  return root.segment === 'scratch' || (root.segment === 'io' && !root.given);
}

function ownerOf(t: Tensor): Tensor {
  return t.view && !t.view.inPlace ? ownerOf(t.view.of) : t;
}

function covers(buffer: Written, t: Tensor): boolean {
  if (buffer.whole || buffer.tensors.has(t)) return true;
  return !t.opaque && uncovered(regionOf(t), [...buffer.regions.values()]).length === 0;
}

function checkTensor(t: Tensor, buffers: ReadonlyMap<Tensor, Written>, wrong: string[]): void {
  const { root, offset, ld } = placeOf(t);
  if (root === t) {
    const outside = (t.segment === 'io' && !t.given) || (t.keep && buffers.has(t));
    const buffer = buffers.get(t);
    if (outside && !(buffer && covers(buffer, t))) wrong.push(`no node writes (all of) the result ${t.name}`);
    return;
  }
  if (root.dtype !== t.dtype) wrong.push(`${t.name} (${t.dtype}) lies in ${root.name} (${root.dtype})`);
  const last = offset + (sizeOf(t.shape) / t.shape[4] - 1) * ld + t.shape[4];
  if (last > sizeOf(root.shape)) wrong.push(`${t.name} reaches past the end of ${root.name}`);
  const of = t.view?.of as Tensor;
  const gaps = placeOf(of).ld !== of.shape[4] && sizeOf(of.shape) !== of.shape[4];
  if (t.view?.dense && gaps) wrong.push(`${t.name} is a dense view of ${of.name}, a slice of channels`);
}

export function checkPlan(plan: MemoryPlan): string[] {
  const wrong: string[] = [];
  const placed: { life: Life; start: number; end: number }[] = [];
  for (const life of plan.lives) {
    const { tensor } = life;
    const start = plan.offsets.get(tensor);
    if (start === undefined) {
      wrong.push(`${tensor.name} was not placed`);
      continue;
    }
    const end = start + bytesOf(tensor);
    if (end > plan.scratchBytes) wrong.push(`${tensor.name} reaches past the scratch segment`);
    placed.push({ life, start, end });
  }
  placed.sort((a, b) => a.life.first - b.life.first);
  let alive: typeof placed = [];
  for (const a of placed) {
    alive = alive.filter((b) => b.life.last >= a.life.first);
    for (const b of alive)
      if (a.start < b.end && b.start < a.end)
        wrong.push(`${b.life.tensor.name} and ${a.life.tensor.name} are alive together and overlap`);
    alive.push(a);
  }
  return wrong;
}
