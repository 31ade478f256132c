/**
 * The whole pipeline from a finished graph to a program that a backend can load: copy → round (bf16 on a
 * backend without it) → fuse → choose algorithms → ask for the sizes of opaque tensors → share in place → check → plan memory → check → encode. The given graph stays as it is.
 */
import type { Backend, Fusion, Session, TensorInfo } from '../backend/types.js';
import { MaclError, memoryError } from '../errors.js';
import type { Arithmetic } from '../arithmetic.js';
import { chooseAlgorithms } from './algorithms.js';
import { checkGraph, checkPlan } from './check.js';
import { cloneGraph } from './clone.js';
import { fuse } from './fuse.js';
import { encodeAttrs, kernelDef } from './kernel.js';
import { planMemory, shareInPlace, type MemoryPlan, type Range } from './plan.js';
import { costsOf, encodeProgram, programText, type KernelCost } from './program.js';
import { roundNarrow } from './rounding.js';
import { bytesOf, placeOf, showShape } from './shape.js';
import type { DType, Graph, Node, SegmentSizes, Shape, Tensor } from './types.js';

export interface KeptSlot {
  readonly offset: number;
  readonly shape: Shape;
  readonly dtype: DType;
  readonly bytes: number;
}

/** Where the host finds an input or result of a program. */
export interface IoSlot extends KeptSlot {
  readonly role: 'input' | 'constant' | 'result';
}

export interface CompiledProgram {
  readonly bytes: Uint8Array;
  /** Runs once, before the first run of `bytes`; what it writes stays in scratch. */
  readonly setUp?: Uint8Array;
  /** What a session must have at least for this program. */
  readonly sizes: SegmentSizes;
  /** By name: the step's input and its results. */
  readonly io: ReadonlyMap<string, IoSlot>;
  /** Where all inputs and constants lie together, and all results: one write and one read a step suffice. */
  readonly ioInput: Range;
  readonly ioResults: Range;
  /** By name in `io`: bytes that whoever runs the program writes before each run (`writeConstants`). */
  readonly constants: ReadonlyMap<string, Uint8Array>;
  /** By name: scratch that stays readable until the next run (gradients). */
  readonly kept: ReadonlyMap<string, KeptSlot>;
  readonly scratchBytesWithoutReuse: number;
  readonly graph: Graph;
  readonly plan: MemoryPlan;
  text(): string;
  costs(): KernelCost[];
}

export interface CompileOptions {
  /** Default: what the backend asks for. */
  readonly fusions?: ReadonlySet<Fusion> | undefined;
  readonly arithmetic?: Arithmetic | undefined;
  /**
   * What follows from the state alone (packed weights) becomes a program of its own, which runs once: for a session whose state
   * stays as it is, and in which nothing else runs.
   */
  readonly setUp?: boolean | undefined;
}

export type Describe = Pick<Backend, 'info' | 'opaqueBytes'>;

/**
 * @param state byte offset of every state tensor, and the segment's size
 * @param storeBytes size of the store segment that descriptors point into
 */
export function compile(
  graph: Graph,
  backend: Describe,
  state: { offsets: ReadonlyMap<Tensor, number>; bytes: number },
  storeBytes: number,
  { fusions = backend.info.fusions, arithmetic = 'direct', setUp = false }: CompileOptions = {},
): CompiledProgram {
  checkSizes(graph, backend);
  const { real, isa } = backend.info;
  const copy = withoutAliases(cloneGraph(graph));
  const plain = fuse(real === 'f64' ? roundNarrow(copy, real) : copy, fusions);
  const chosen = askSizes(chooseAlgorithms(plain, { arithmetic, isa }), backend);
  const { graph: fused, first } = setUp ? stateFirst(chosen) : { graph: chosen, first: 0 };
  shareInPlace(fused);
  mustBeSound('graph', checkGraph(fused));
  const plan = planMemory(fused, state.offsets, backend.info.alignment);
  mustBeSound('memory plan', checkPlan(plan));
  const sizes = { state: state.bytes, scratch: plan.scratchBytes, io: plan.ioBytes, store: storeBytes };
  const io = new Map<string, IoSlot>();
  const kept = new Map<string, KeptSlot>();
  const constants = new Map<string, Uint8Array>();
  for (const t of fused.tensors) {
    const offset = plan.offsets.get(t);
    if (t.view || offset === undefined) continue;
    const slot = { offset, shape: t.shape, dtype: t.dtype, bytes: bytesOf(t) };
    if (t.segment === 'io') {
      if (io.has(t.name)) throw new MaclError('program', `two inputs or results are named ${t.name}`);
      io.set(t.name, { ...slot, role: t.given ?? 'result' });
      if (t.constant) constants.set(t.name, t.constant);
    } else if (t.keep && !t.opaque) kept.set(t.name, slot);
  }
  const part = (nodes: readonly Node[]) => encodeProgram({ ...fused, nodes }, plan, sizes);
  return {
    bytes: part(fused.nodes.slice(first)),
    ...(first > 0 ? { setUp: part(fused.nodes.slice(0, first)) } : {}),
    sizes,
    io,
    ioInput: plan.ioInput,
    ioResults: plan.ioResults,
    constants,
    kept,
    scratchBytesWithoutReuse: plan.scratchBytesWithoutReuse,
    graph: fused,
    plan,
    text: () => programText(fused, plan),
    costs: () => costsOf(fused),
  };
}

/**
 * Nodes that read nothing but the state, and each other, in front; what the rest reads of them is kept.
 * @returns how many they are
 */
function stateFirst(graph: Graph): { graph: Graph; first: number } {
  const written = new Map<Tensor, boolean>(); // by root: by such a node?
  const front = new Set<Node>();
  for (const node of graph.nodes) {
    const alone = (t: Tensor | null) => {
      if (!t) return true;
      const { root } = placeOf(t);
      return root.segment === 'state' || (root.segment === 'scratch' && written.get(root) === true);
    };
    const own = (t: Tensor | null) => !t || placeOf(t).root.segment === 'scratch';
    const first = !node.commit && node.inputs.every(alone) && node.outputs.every(own);
    if (first) front.add(node);
    for (const t of node.outputs) if (t) written.set(placeOf(t).root, first && written.get(placeOf(t).root) !== false);
  }
  const rest = graph.nodes.filter((n) => !front.has(n));
  const read = new Set(rest.flatMap((n) => n.inputs.flatMap((t) => (t ? [placeOf(t).root] : []))));
  for (const node of front)
    for (const t of node.outputs) if (t && read.has(placeOf(t).root)) placeOf(t).root.keep = true;
  return { graph: { ...graph, nodes: [...graph.nodes.filter((n) => front.has(n)), ...rest] }, first: front.size };
}

/** Views stand in the tensors; their nodes were for gradients. */
function withoutAliases(graph: Graph): Graph {
  return { ...graph, nodes: graph.nodes.filter((n) => !kernelDef(n.kernel).alias) };
}

function mustBeSound(what: string, wrong: readonly string[]): void {
  if (wrong.length === 0) return;
  const more = wrong.length > 3 ? ` and ${wrong.length - 3} more` : '';
  throw new MaclError('program', `the ${what} is unsound: ${wrong.slice(0, 3).join('; ')}${more}`);
}

/** The most bytes that programs address (native/engine/program.cc). */
const MOST_BYTES = 2 ** 47;

/** A tensor that no machine holds: beyond this sizes are no exact numbers any more. */
function checkSizes(graph: Graph, backend: Describe): void {
  for (const t of graph.tensors) {
    if (t.opaque || t.view || bytesOf(t) <= MOST_BYTES) continue;
    const what = `${t.name} of ${showShape(t.shape)} (a smaller patch or batch needs less)`;
    throw memoryError(what, bytesOf(t), backend.info.maxBytes);
  }
}

/** Asks the backend how large packed weights and workspaces are; a workspace of 0 bytes is left out. */
function askSizes(graph: Graph, backend: Describe): Graph {
  const info = (t: Tensor | null): TensorInfo | null =>
    t && { shape: t.opaque ? [t.bytes ?? 1, 1, 1, 1, 1] : t.shape, ld: t.opaque ? 1 : placeOf(t).ld, dtype: t.dtype };
  const nodes = graph.nodes.map((node): Node => {
    const def = kernelDef(node.kernel);
    const tensors = [...node.inputs, ...node.outputs];
    let infos: (TensorInfo | null)[] | null = null;
    const outputs = node.outputs.map((t, i) => {
      if (!t?.opaque) return t;
      infos ??= tensors.map(info);
      t.bytes ??= backend.opaqueBytes(node.kernel, infos, encodeAttrs(def, node.attrs), node.inputs.length + i);
      return t.bytes === 0 && def.outputs[i]?.optional ? null : t;
    });
    return { ...node, outputs };
  });
  return { ...graph, nodes };
}

/** Writes what a program carries; before each run, because programs share a session's io. */
export function writeConstants(session: Pick<Session, 'write'>, program: CompiledProgram): void {
  for (const [name, bytes] of program.constants) session.write('io', (program.io.get(name) as IoSlot).offset, bytes);
}

/** Sizes of one session that runs all of these programs. */
export function sessionSizes(programs: readonly CompiledProgram[]): SegmentSizes {
  const most = (name: keyof SegmentSizes) => Math.max(0, ...programs.map((p) => p.sizes[name]));
  return { state: most('state'), scratch: most('scratch'), io: most('io'), store: most('store') };
}
