/**
 * Lowering: from a graph and a memory plan to the flat program of docs/program.md, and to its text form (one line a
 * kernel, for people and for tests). Pure.
 */
import { MaclError } from '../errors.js';
import { RECORD_BYTES, writeRecord, type TensorRecord } from '../program-record.js';
import { encodeAttrs, kernelDef } from './kernel.js';
import { addressOf, trafficOf, type MemoryPlan } from './plan.js';
import { extentOf, placeOf, showShape } from './shape.js';
import { SEGMENTS, type Graph, type Node, type SegmentSizes, type Tensor } from './types.js';

const MAGIC = 0x4c43414d;
const VERSION = 1;
const HEADER_BYTES = 64;

export function encodeProgram(graph: Graph, plan: MemoryPlan, sizes: SegmentSizes): Uint8Array {
  const names = [...new Set(graph.nodes.map((n) => n.kernel))];
  const nameBytes = names.map((n) => new TextEncoder().encode(n));
  const padded = nameBytes.map((b) => Math.ceil((4 + b.length) / 8) * 8);
  const attrs = graph.nodes.map((n) => encodeAttrs(kernelDef(n.kernel), n.attrs));
  const bodyBytes = graph.nodes.reduce(
    (sum, n, i) => sum + 16 + RECORD_BYTES * (n.inputs.length + n.outputs.length) + (attrs[i]?.length ?? 0),
    0,
  );
  const bytes = new Uint8Array(HEADER_BYTES + padded.reduce((a, b) => a + b, 0) + bodyBytes);
  const view = new DataView(bytes.buffer);
  const guard = graph.guard ? addressOf(plan, graph.guard) : null;
  const header = [MAGIC, VERSION, graph.nodes.length, names.length];
  header.forEach((v, i) => view.setUint32(i * 4, v, true));
  view.setInt32(16, graph.guard ? SEGMENTS[placeOf(graph.guard).root.segment] : -1, true);
  view.setBigInt64(24, BigInt(guard?.offset ?? 0), true);
  [sizes.state, sizes.scratch, sizes.io, sizes.store].forEach((s, i) => view.setBigInt64(32 + i * 8, BigInt(s), true));
  let at = HEADER_BYTES;
  nameBytes.forEach((b, i) => {
    view.setUint32(at, b.length, true);
    bytes.set(b, at + 4);
    at += padded[i] as number;
  });
  graph.nodes.forEach((node, i) => {
    const tensors = [...node.inputs, ...node.outputs];
    const a = attrs[i] as Uint8Array;
    [names.indexOf(node.kernel), node.commit ? 1 : 0, tensors.length, a.length].forEach((v, k) =>
      view.setUint32(at + k * 4, v, true),
    );
    at += 16;
    for (const t of tensors) {
      writeRecord(view, at, t && recordOf(plan, t));
      at += RECORD_BYTES;
    }
    bytes.set(a, at);
    at += a.length;
  });
  if (at !== bytes.length) throw new MaclError('program', 'the encoder and its size disagree');
  return bytes;
}

function recordOf(plan: MemoryPlan, t: Tensor): TensorRecord {
  const { offset, ld } = addressOf(plan, t);
  const bytes = extentOf(t);
  const { segment } = placeOf(t).root;
  const { dtype } = t;
  if (t.opaque) return { segment, dtype, offset, bytes, shape: [bytes], ld: 1 };
  return { segment, dtype, offset, bytes, shape: t.shape, ld };
}

/** One line a kernel: `12 conv3d_fwd encoder.blocks.0.conv1 (x:2×48×64×48×1 …) -> (…) k=3 …`. */
export function programText(graph: Graph, plan: MemoryPlan): string {
  return graph.nodes.map((node, i) => `${String(i).padStart(4)} ${nodeText(node, plan)}`).join('\n');
}

function nodeText(node: Node, plan: MemoryPlan): string {
  const def = kernelDef(node.kernel);
  const show = (t: Tensor | null, name: string | undefined): string | null => {
    if (!t) return null;
    const { offset, ld } = addressOf(plan, t);
    const { root } = placeOf(t);
    const stride = ld !== t.shape[4] && !t.opaque ? `/${ld}` : '';
    const what = t.opaque ? `${extentOf(t)}B` : `${showShape(t.shape)}${stride}:${t.dtype}`;
    return `${name} ${what}@${root.segment}+${offset}`;
  };
  const list = (ts: Node['inputs'], ports: typeof def.inputs) =>
    ts
      .map((t, i) => show(t, ports[i]?.name))
      .filter((s) => s !== null)
      .join(', ');
  const attrs = def.fields
    .filter((f) => node.attrs[f.name])
    .map((f) => `${f.name}=${node.attrs[f.name]}`)
    .join(' ');
  const mark = `${node.commit ? ' commit' : ''}${node.again ? ' again' : ''}`;
  return `${node.kernel}${mark} ${node.scope} (${list(node.inputs, def.inputs)}) -> (${list(node.outputs, def.outputs)}) ${attrs}`.trim();
}

export interface KernelCost {
  readonly kernel: string;
  readonly scope: string;
  readonly flops: number;
  readonly bytes: number;
}

export function costsOf(graph: Graph): KernelCost[] {
  return graph.nodes.map((n) => ({
    kernel: n.kernel,
    scope: n.scope,
    flops: kernelDef(n.kernel).flops?.(n) ?? 0,
    bytes: trafficOf(n),
  }));
}
