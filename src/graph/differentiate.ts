/**
 * Reverse-mode differentiation by graph rewriting: walks the nodes backwards and lets each kernel's gradient rule append
 * its backward kernels. A gradient that has several sources is written by the first and added into by the others. Nothing
 * is cut silently: a gradient that meets a kernel without a rule, an output or input that a rule leaves out, and a
 * target that the loss does not reach are errors.
 */
import { MaclError } from '../errors.js';
import type { GraphBuilder } from './builder.js';
import { Gradients } from './gradients.js';
import { dependents } from './dependents.js';
import { kernelDef, port, required, type GradientContext, type KernelDef } from './kernel.js';
import { tensorsOverlap } from './regions.js';
import { sameShape, showShape } from './shape.js';
import type { Node, Tensor } from './types.js';

export interface DifferentiateOptions {
  /** Targets that this loss does not train (unused or frozen): their gradients become 0. */
  readonly unused?: ReadonlySet<Tensor>;
  /** Walk only nodes from this index of `b.nodes` on: those of one micro-batch. */
  readonly from?: number;
  /** The gradients hold values already, of another loss or micro-batch: add. */
  readonly written?: boolean;
}

/**
 * Appends the backward pass of `loss` (a float64 scalar). May be called several times over one builder.
 * @param targets tensors whose gradients are wanted, and where each goes
 * @returns nothing: every given gradient tensor is written (or added into)
 */
export function differentiate(
  b: GraphBuilder,
  loss: Tensor,
  targets: ReadonlyMap<Tensor, Tensor>,
  options: DifferentiateOptions = {},
): void {
  const { unused = new Set(), from = 0, written = false } = options;
  const nodes = [...b.nodes];
  if (!Number.isSafeInteger(from) || from < 0 || from > nodes.length)
    throw new MaclError('program', `differentiate from node ${from}: there are ${nodes.length}`);
  const trained = new Map([...targets].filter(([t]) => !unused.has(t)));
  const { wanted, tangled } = dependents(b, nodes, trained.keys());
  const gradients = new Gradients(b);
  for (const [t, tensor] of trained) {
    if (!sameShape(t.shape, tensor.shape) || t.dtype !== tensor.dtype)
      throw new MaclError(
        'program',
        `the gradient of ${t.name} (${showShape(t.shape)}, ${t.dtype}) cannot lie in ${tensor.name} (${showShape(tensor.shape)}, ${tensor.dtype})`,
      );
    if (written && nodes.slice(from).some((n) => n.outputs.includes(t)))
      throw new MaclError(
        'program',
        `${t.name} is computed here: a gradient that holds values already would flow back`,
      );
    const maker = b.producer(t);
    if (maker && kernelDef(maker.kernel).alias)
      throw new MaclError('program', `${t.name} is a view: ask for the gradient of what it looks at`);
    gradients.give(t, tensor, written);
  }

  const seed = b.scalar('dloss');
  b.emit('fill_fwd', { value: 1 }, {}, { y: seed });
  gradients.give(loss, seed, true);

  for (let i = nodes.length - 1; i >= from; i--) {
    const node = nodes[i] as Node;
    if (node.commit || kernelDef(node.kernel).alias || !node.outputs.some((t) => t && gradients.holds(t))) continue;
    if (!node.inputs.some((t) => t && wanted.has(t))) continue;
    backward(b, node, wanted, gradients);
  }

  const missing = [...trained.keys()].filter((t) => !gradients.reached(t) && t !== loss);
  if (missing.length > 0)
    throw new MaclError(
      'program',
      `the loss ${loss.name} does not reach ${names(missing)}: declare what it does not train`,
      { field: missing[0]?.name },
    );
  const walked = new Set(nodes.slice(from));
  for (const t of gradients.all()) {
    const other = tangled.get(t);
    if (other)
      throw new MaclError(
        'program',
        `no gradient passes from ${t.name} to ${other.name}, which only lies in the same memory: use rows, sliceChannels, reshape or concat`,
        { field: t.name },
      );
    const maker = b.producer(t);
    if (wanted.has(t) && !trained.has(t) && maker && !walked.has(maker))
      throw new MaclError('program', `a gradient reaches ${t.name}, which was computed before node ${from}`);
  }
  // Where only views of a target were used, the rest of its gradient is 0.
  for (const t of trained.keys()) gradients.read(t);
  for (const [t, tensor] of targets) if (unused.has(t) && !written) b.emit('fill_fwd', { value: 0 }, {}, { y: tensor });
}

function names(tensors: readonly Tensor[]): string {
  const more = tensors.length > 5 ? ` and ${tensors.length - 5} more` : '';
  return `${tensors
    .slice(0, 5)
    .map((t) => t.name)
    .join(', ')}${more}`;
}

/**
 * The backward kernels of one node alone: for tests of its rule.
 * @param upstream gradients of its outputs
 */
export function differentiateNode(
  b: GraphBuilder,
  node: Node,
  upstream: ReadonlyMap<Tensor, Tensor>,
  targets: ReadonlyMap<Tensor, Tensor>,
  written = false,
): void {
  const gradients = new Gradients(b);
  for (const [t, tensor] of upstream) gradients.give(t, tensor, true);
  for (const [t, tensor] of targets) gradients.give(t, tensor, written);
  backward(b, node, new Set(targets.keys()), gradients);
}

/** Appends the backward kernels of one node, and holds its rule to what it has to do. */
function backward(b: GraphBuilder, node: Node, wanted: ReadonlySet<Tensor>, gradients: Gradients): void {
  const def = kernelDef(node.kernel);
  const { gradient } = def;
  const at = `${node.kernel} at ${node.scope === '' ? 'the outermost scope' : node.scope}`;
  if (typeof gradient !== 'function')
    throw new MaclError('program', `no gradient passes through ${at} (${gradient.none})`, { field: node.kernel });
  const call = new Call(b, node, def, wanted, gradients);
  b.backwardOf(node, () => {
    gradient(call);
    call.finish();
  });
  node.outputs.forEach((t, i) => {
    const name = def.outputs[i]?.name ?? '';
    if (t && gradients.holds(t) && !call.asked.has(name))
      throw new MaclError('program', `${at} has no gradient through its output ${name}`, { field: node.kernel });
  });
  node.inputs.forEach((t, i) => {
    if (t && wanted.has(t) && !call.served.has(t))
      throw new MaclError('program', `${at} has no gradient for its input ${def.inputs[i]?.name} (${t.name})`, {
        field: node.kernel,
      });
  });
}

/** One call of a rule: what it asks for, and what it has served. */
class Call implements GradientContext {
  readonly asked = new Set<string>();
  readonly served = new Set<Tensor>();
  /** Temporaries that are added to a gradient once the rule's kernels stand. */
  private readonly later: { from: Tensor; to: Tensor }[] = [];

  constructor(
    readonly b: GraphBuilder,
    readonly node: Node,
    private readonly def: KernelDef,
    private readonly wanted: ReadonlySet<Tensor>,
    private readonly gradients: Gradients,
  ) {}

  input(name: string): Tensor {
    return required(this.node, name);
  }

  optional(name: string): Tensor | null {
    return port(this.node, name);
  }

  output(name: string): Tensor {
    return required(this.node, name);
  }

  dout(name: string): Tensor | null {
    this.asked.add(name);
    const t = port(this.node, name);
    return t && this.gradients.read(t);
  }

  needs(t: Tensor | null): boolean {
    return t !== null && this.wanted.has(t);
  }

  sinks(tensors: readonly Tensor[]): { tensors: Tensor[]; accumulate: 0 | 1 } {
    const taken: Tensor[] = [];
    const sinks = tensors.map((t) => {
      this.served.add(t);
      // One kernel must not write two gradients into one memory: the tensor comes twice, or as a view too.
      const place = this.wanted.has(t) ? this.gradients.tensorOf(t) : null;
      if (place && !taken.some((other) => tensorsOverlap(other, place))) {
        taken.push(place);
        return { t, tensor: place, add: this.gradients.sink(t) };
      }
      const tensor = this.gradients.temporary(t);
      if (place) this.later.push({ from: tensor, to: t });
      return { t: null, tensor, add: false };
    });
    const accumulate = sinks.some((s) => s.add) ? 1 : 0;
    for (const { t, tensor, add } of sinks) {
      if (accumulate && !add) this.b.emit('fill_fwd', { value: 0 }, {}, { y: tensor });
      if (t) this.gradients.mark(t);
    }
    return { tensors: sinks.map((s) => s.tensor), accumulate };
  }

  pass(t: Tensor, write: (dx: Tensor) => void): void {
    if (!this.needs(t)) return;
    if (!this.gradients.holds(t)) return write(this.sinks([t]).tensors[0] as Tensor);
    this.served.add(t);
    const temporary = this.gradients.temporary(t);
    write(temporary);
    this.copy(temporary, t);
  }

  handOn(dy: Tensor, t: Tensor): void {
    if (!this.needs(t)) return;
    this.served.add(t);
    const y = this.node.outputs.find((o) => o && this.gradients.read(o) === dy);
    // Only the node that made y is the last to read its gradient.
    if (y && this.b.producer(y) === this.node && sameShape(y.shape, t.shape) && this.gradients.handOn(y, t)) return;
    this.copy(dy, t);
  }

  covers(...names: string[]): void {
    for (const name of names) {
      const t = port(this.node, name);
      if (t) this.served.add(t);
    }
  }

  finish(): void {
    for (const { from, to } of this.later) this.copy(from, to);
  }

  /** Writes a tensor into a gradient, or adds it. */
  private copy(from: Tensor, to: Tensor): void {
    const accumulate = this.gradients.sink(to) ? 1 : 0;
    this.gradients.mark(to);
    this.b.emit('copy_fwd', { accumulate }, { x: from }, { y: this.gradients.tensorOf(to) });
  }
}
