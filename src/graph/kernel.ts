/**
 * The registry of kernels as the compiler sees them: signature, attributes, gradient rule, cost. Each op's file adds its
 * own. A kernel's signature and attribute strings are the same, letter for letter, as in `native/ops/<op>.h`; a test
 * holds the two together.
 */
import { MaclError } from '../errors.js';
import type { GraphBuilder } from './builder.js';
import { DTYPES, type DType, type Node, type Tensor } from './types.js';

export interface Port {
  readonly name: string;
  readonly optional: boolean;
}

export interface AttrField {
  readonly name: string;
  readonly type: 'i64' | 'f64';
}

/** What a gradient rule sees of one forward node. */
export interface GradientContext {
  readonly b: GraphBuilder;
  readonly node: Node;
  input(name: string): Tensor;
  optional(name: string): Tensor | null;
  output(name: string): Tensor;
  /** Gradient of the loss with respect to an output (null where nothing depends on it). */
  dout(name: string): Tensor | null;
  /** Whether the loss's gradient with respect to this tensor is wanted. */
  needs(t: Tensor | null): boolean;
  /**
   * Where the gradients of some tensors go that one kernel fills together, so all write (0) or all add (1). A tensor that
   * needs none gets a temporary; one that comes twice gets one too, and both are added.
   */
  sinks(tensors: readonly Tensor[]): { tensors: Tensor[]; accumulate: 0 | 1 };
  /**
   * For a kernel that can only write: `write` gets the gradient's own tensor, or a temporary that is then added. Like
   * `handOn` it does nothing where no gradient is needed.
   */
  pass(t: Tensor, write: (dx: Tensor) => void): void;
  /** The gradient of `t` is `dy` itself: without a copy, where nothing else is added and nobody reads `dy` any more. */
  handOn(dy: Tensor, t: Tensor): void;
  /** Inputs through which this rule has already differentiated (packed weights, batch statistics). */
  covers(...names: string[]): void;
}

/** Appends a node's backward kernels. It has to ask for every output's gradient and to serve every input that needs one. */
export type GradientRule = (g: GradientContext) => void;

/** Instead of a rule: why no gradient passes. Differentiation refuses where one would have to. */
export interface NoGradient {
  readonly none: string;
}
export const none = (reason: string): NoGradient => ({ none: reason });
/** Of backward kernels. */
export const noSecond = none('second derivatives are not supported');

/** The rule of what passes no gradient on purpose: its result counts as a constant. */
export const stop: GradientRule = () => undefined;
/** The rule of a view: the gradient of the part lies in the gradient of the whole. */
export const through: GradientRule = () => undefined;

export interface KernelDef {
  readonly name: string;
  readonly tensors: string;
  readonly attrs: string;
  readonly inputs: readonly Port[];
  readonly outputs: readonly Port[];
  readonly fields: readonly AttrField[];
  /** Outputs that the kernel reads as well (in place): optimisers, running statistics. */
  readonly inout: ReadonlySet<string>;
  /** accumulate attribute → the outputs that it turns from written to added into. */
  readonly accumulates: Readonly<Record<string, readonly string[]>>;
  /** Output may lie where input lay: the kernel reads each element before it writes it, and no other's. */
  readonly inPlace?: readonly [output: string, input: string];
  readonly gradient: GradientRule | NoGradient;
  /** Name of the backward kernel and of the fused one, for losses. */
  readonly lossGrad?: { readonly bwd: string; readonly fused: string };
  readonly flops?: (node: Node) => number;
  /** Its results are kept where a scope is computed again: statistics, which others than the backward pass read. */
  readonly once?: boolean;
  /** Tensors of one dtype, that of the activations (or labels, scalars) that the kernel is over. */
  readonly alike?: readonly string[];
  /** Tensors of the dtype that weights, their gradients and statistics are held in, whatever activations are. */
  readonly real?: readonly string[];
  /** Its results are numbers that it read: nothing is rounded where they are stored. */
  readonly exact?: boolean;
  /** An input that the kernel multiplies in a narrower dtype than it is held in, and rounds as it loads it. */
  readonly narrows?: (node: Node) => { readonly input: string; readonly to: DType };
  /** No kernel at all: the output is a view of the input, and the compiler drops the node. */
  readonly alias?: boolean;
}

export type KernelOptions = Pick<KernelDef, 'gradient'> &
  Partial<
    Pick<KernelDef, 'accumulates' | 'inPlace' | 'lossGrad' | 'flops' | 'once' | 'alike' | 'real' | 'exact' | 'narrows'>
  > & { inout?: readonly string[] };

/** `narrows` of weights that are packed for activations of the dtype in the attribute `dtype`. */
export function packedTo(node: Node): { readonly input: string; readonly to: DType } {
  const to = (Object.keys(DTYPES) as DType[]).find((name) => DTYPES[name] === node.attrs['dtype']);
  if (!to) throw new MaclError('program', `${node.kernel} at ${node.scope}: there is no dtype ${node.attrs['dtype']}`);
  return { input: 'w', to };
}

const registry = new Map<string, KernelDef>();

function ports(text: string): Port[] {
  return text
    .trim()
    .split(/\s+/)
    .filter((s) => s !== '')
    .map((s) => ({ name: s.replace('?', ''), optional: s.endsWith('?') }));
}

/** Adds a kernel; `tensors` as "x wp b? > y ws?", `attrs` as "i64 kd;f64 eps;". */
export function defineKernel(name: string, tensors: string, attrs: string, options: KernelOptions): KernelDef {
  if (registry.has(name)) throw new MaclError('program', `kernel ${name} is defined twice`);
  const [ins = '', outs = ''] = tensors.split('>');
  const def: KernelDef = {
    ...options,
    name,
    tensors,
    attrs,
    inputs: ports(ins),
    outputs: ports(outs),
    fields: attrs
      .split(';')
      .filter((s) => s !== '')
      .map((s) => {
        const [type, field] = s.split(' ') as ['i64' | 'f64', string];
        return { name: field, type };
      }),
    inout: new Set(options.inout ?? []),
    accumulates: options.accumulates ?? {},
  };
  registry.set(name, def);
  return def;
}

/** Adds a view: a node `x > y` that no backend sees. */
export function defineAlias(name: string, gradient: typeof stop | typeof through): void {
  registry.set(name, { ...defineKernel(name, 'x > y', '', { gradient }), alias: true });
}

export function kernelDef(name: string): KernelDef {
  const def = registry.get(name);
  if (!def) throw new MaclError('program', `there is no kernel ${name}`);
  return def;
}

export function allKernels(): readonly KernelDef[] {
  return [...registry.values()].filter((k) => !k.alias);
}

/** Attributes as the bytes of the C++ struct: 8-byte little-endian fields in order. */
export function encodeAttrs(def: KernelDef, attrs: Readonly<Record<string, number>>): Uint8Array {
  const bytes = new Uint8Array(def.fields.length * 8);
  const view = new DataView(bytes.buffer);
  def.fields.forEach(({ name, type }, i) => {
    const value = attrs[name] ?? 0;
    if (type === 'f64') view.setFloat64(i * 8, value, true);
    else view.setBigInt64(i * 8, BigInt(value), true);
  });
  return bytes;
}

/** A node's tensor by port name. */
export function port(node: Node, name: string): Tensor | null {
  const def = kernelDef(node.kernel);
  const i = def.inputs.findIndex((p) => p.name === name);
  if (i >= 0) return node.inputs[i] ?? null;
  const o = def.outputs.findIndex((p) => p.name === name);
  if (o >= 0) return node.outputs[o] ?? null;
  throw new MaclError('program', `kernel ${node.kernel} has no tensor ${name}`);
}

export function required(node: Node, name: string): Tensor {
  const t = port(node, name);
  if (!t) throw new MaclError('program', `${node.scope}: ${node.kernel} lacks ${name}`);
  return t;
}

/** Outputs that this node reads too: in place, or because it adds into them. */
export function readsOutput(node: Node, outputName: string): boolean {
  const def = kernelDef(node.kernel);
  if (def.inout.has(outputName)) return true;
  return Object.entries(def.accumulates).some(([attr, names]) => node.attrs[attr] === 1 && names.includes(outputName));
}

/** Dtypes that do not fit a kernel, its names and those of the tensors. @param real of weights and statistics */
export function checkDTypes(node: Node, real: DType): void {
  const def = kernelDef(node.kernel);
  const wrong = (name: string, t: Tensor, expected: string): never => {
    const words = `${node.scope}: ${node.kernel} takes ${expected}, found ${name} (${t.name}) in ${t.dtype}`;
    throw new MaclError('program', words, { field: t.name, expected, found: t.dtype });
  };
  const present = (names: readonly string[] = []) =>
    names.flatMap((name) => {
      const t = port(node, name);
      return t ? [{ name, t }] : [];
    });
  const [first, ...others] = present(def.alike);
  for (const { name, t } of others)
    if (first && t.dtype !== first.t.dtype)
      wrong(name, t, `${first.name} (${first.t.name}, ${first.t.dtype}) and ${name} in one dtype`);
  for (const { name, t } of present(def.real)) if (t.dtype !== real) wrong(name, t, `${name} in ${real}`);
}
