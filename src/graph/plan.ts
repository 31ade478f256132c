/**
 * The memory plan: where every scratch tensor lies. Two tensors share bytes only if their lives do not overlap. Pure:
 * needs no device. `io` is laid out in order, inputs first, and never overlaid; `state` and `store` keep their places.
 */
import { MaclError } from '../errors.js';
import { kernelDef, readsOutput } from './kernel.js';
import { bytesOf, placeOf, sameShape, sizeOf } from './shape.js';
import { DTYPE_BYTES, type Graph, type Node, type Tensor } from './types.js';

/** The next multiple: every buffer starts on one of what its backend wants (BackendInfo.alignment). */
export const alignUp = (bytes: number, alignment: number): number => Math.ceil(bytes / alignment) * alignment;

export interface Life {
  readonly tensor: Tensor;
  readonly first: number;
  last: number;
}

export interface Range {
  readonly offset: number;
  readonly bytes: number;
}

export interface MemoryPlan {
  /** Byte offset of every owning tensor in its segment. */
  readonly offsets: ReadonlyMap<Tensor, number>;
  readonly scratchBytes: number;
  /** What scratch would take if nothing were shared. */
  readonly scratchBytesWithoutReuse: number;
  readonly ioBytes: number;
  /** Inputs and constants, which lie first in io, and results, which follow. */
  readonly ioInput: Range;
  readonly ioResults: Range;
  readonly lives: readonly Life[];
}

/** Lives of the tensors that own memory in scratch, in nodes. */
export function livesOf(nodes: readonly Node[]): Life[] {
  const lives = new Map<Tensor, Life>();
  nodes.forEach((node, i) => {
    for (const t of [...node.inputs, ...node.outputs]) {
      if (!t) continue;
      const { root } = placeOf(t);
      if (root.segment !== 'scratch') continue;
      const life = lives.get(root);
      if (life) life.last = i;
      else lives.set(root, { tensor: root, first: i, last: i });
      if (root.keep || t.keep) (lives.get(root) as Life).last = Infinity;
    }
  });
  return [...lives.values()];
}

/** Lets an output lie where a dying input lies, for kernels that allow it. Sets views; call before `planMemory`. */
export function shareInPlace(graph: Graph): void {
  const { nodes } = graph;
  const lastUse = new Map<Tensor, number>();
  const firstUse = new Map<Tensor, number>();
  nodes.forEach((node, i) => {
    for (const t of [...node.inputs, ...node.outputs]) {
      if (!t) continue;
      const { root } = placeOf(t);
      lastUse.set(root, i);
      if (!firstUse.has(root)) firstUse.set(root, i);
    }
  });
  for (const t of graph.tensors) if (t.keep) lastUse.set(placeOf(t).root, Infinity);
  nodes.forEach((node, i) => {
    const def = kernelDef(node.kernel);
    if (!def.inPlace) return;
    const [outName, inName] = def.inPlace;
    const out = node.outputs[def.outputs.findIndex((p) => p.name === outName)];
    const input = node.inputs[def.inputs.findIndex((p) => p.name === inName)];
    if (!out || !input || out === input || readsOutput(node, outName)) return;
    const { root } = placeOf(input);
    const plain = !out.view && !input.view && out.segment === 'scratch' && input.segment === 'scratch';
    if (!plain || out.keep || input.keep || out.dtype !== input.dtype || !sameShape(out.shape, input.shape)) return;
    // Others may look at the same input in this very node (dy and x the same tensor): then it is not dying here.
    const uses = node.inputs.filter((t) => t && placeOf(t).root === root).length;
    if (uses !== 1 || lastUse.get(root) !== i || firstUse.get(out) !== i) return;
    out.view = { of: input, offset: 0, dense: false, inPlace: true };
    lastUse.set(root, lastUse.get(out) as number);
  });
}

interface Placed {
  readonly life: Life;
  readonly start: number;
  readonly end: number;
}

/** Into a list that is in order of `start`, behind its equals. */
function insertByStart(list: Placed[], one: Placed): void {
  let [low, high] = [0, list.length];
  while (low < high) {
    const middle = (low + high) >> 1;
    if ((list[middle] as Placed).start <= one.start) low = middle + 1;
    else high = middle;
  }
  list.splice(low, 0, one);
}

export function planMemory(graph: Graph, stateOffsets: ReadonlyMap<Tensor, number>, alignment: number): MemoryPlan {
  const align = (bytes: number) => alignUp(bytes, alignment);
  const offsets = new Map<Tensor, number>(stateOffsets);
  const io = graph.tensors.filter((t) => !t.view && t.segment === 'io');
  let ioBytes = 0;
  const lay = (tensors: readonly Tensor[]): Range => {
    const offset = ioBytes;
    for (const t of tensors) {
      offsets.set(t, ioBytes);
      ioBytes += align(bytesOf(t));
    }
    return { offset, bytes: ioBytes - offset };
  };
  const ioInput = lay(io.filter((t) => t.given));
  const ioResults = lay(io.filter((t) => !t.given));
  const lives = livesOf(graph.nodes);
  const bySize = [...lives].sort((a, c) => bytesOf(c.tensor) - bytesOf(a.tensor) || a.tensor.id - c.tensor.id);
  const placed: Placed[] = []; // by start
  let scratchBytes = 0;
  for (const life of bySize) {
    const bytes = align(bytesOf(life.tensor));
    let start = 0;
    for (const p of placed) {
      if (p.life.first > life.last || life.first > p.life.last) continue;
      if (start + bytes <= p.start) break;
      start = Math.max(start, p.end);
    }
    offsets.set(life.tensor, start);
    insertByStart(placed, { life, start, end: start + bytes });
    scratchBytes = Math.max(scratchBytes, start + bytes);
  }
  const scratchBytesWithoutReuse = lives.reduce((sum, l) => sum + align(bytesOf(l.tensor)), 0);
  return { offsets, scratchBytes, scratchBytesWithoutReuse, ioBytes, ioInput, ioResults, lives };
}

/** Byte offset and stride of any tensor, views included. */
export function addressOf(plan: MemoryPlan, t: Tensor): { offset: number; ld: number } {
  const place = placeOf(t);
  const base = plan.offsets.get(place.root);
  if (base === undefined) throw new MaclError('program', `${t.name} has no memory: nothing writes it`);
  return { offset: base + place.offset * DTYPE_BYTES[t.dtype], ld: place.ld };
}

/** Bytes that a node reads and writes (each tensor once), for the printed program. */
export function trafficOf(node: Node): number {
  return [...node.inputs, ...node.outputs].reduce((sum, t) => {
    if (!t) return sum;
    return sum + (t.opaque ? bytesOf(t) : sizeOf(t.shape) * DTYPE_BYTES[t.dtype]);
  }, 0);
}
