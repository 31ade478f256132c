/**
 * Builds a graph: makes tensors, appends kernel calls, checks them against the registry. Op functions (src/ops) are
 * written on top of it. Packed weights are made once a program however often they are used.
 */
import { MaclError } from '../errors.js';
import { checkDTypes, kernelDef } from './kernel.js';
import type { DType, Graph, Node, SegmentName, Shape, Tensor, View } from './types.js';
import { sameShape, showShape, sizeOf } from './shape.js';
import { encode } from './codec.js';

type Mutable<T> = { -readonly [K in keyof T]: T[K] };
export type NamedTensors = Readonly<Record<string, Tensor | null | undefined>>;

export interface TensorOptions {
  segment?: SegmentName;
  opaque?: boolean;
  keep?: boolean;
  view?: View;
}

export class GraphBuilder {
  readonly nodes: Node[] = [];
  readonly tensors: Tensor[] = [];
  guard: Tensor | null = null;
  /** State that the graph holds still; layers ask, norms then use the statistics that they have. */
  frozen: ReadonlySet<Tensor> = new Set();
  private readonly once = new Map<string, Node>();
  private readonly producers = new Map<Tensor, Node>();
  private scopes: string[] = [];
  private forward: Node | undefined;

  /**
   * @param real what weights, their gradients and statistics are held in (the backend's `real`)
   * @param activation what activations and their gradients are held in
   */
  constructor(
    readonly real: DType,
    readonly activation: DType = real,
  ) {}

  get scope(): string {
    return this.scopes.join('.');
  }

  /** Runs `body` with `name` added to the scope that nodes made in it carry. */
  within<T>(name: string, body: () => T): T {
    this.scopes.push(name);
    try {
      return body();
    } finally {
      this.scopes.pop();
    }
  }

  /** Runs `body`, which appends the backward kernels of `node`: they carry its scope and remember it. */
  backwardOf(node: Node, body: () => void): void {
    const { scopes, forward } = this;
    this.scopes = [node.scope === '' ? 'backward' : node.scope];
    this.forward = node;
    try {
      body();
    } finally {
      this.scopes = scopes;
      this.forward = forward;
    }
  }

  /** @param dtype of activations unless given: what belongs to weights is in `real`, what comes from a tensor in its own */
  tensor(name: string, shape: Shape, dtype: DType = this.activation, options: TensorOptions = {}): Tensor {
    if (!shape.every((s) => Number.isSafeInteger(s) && s >= 1))
      throw new MaclError('config', `${this.scope} ${name}: sizes must be at least 1, found [${shape.join(', ')}]`);
    const t: Mutable<Tensor> = {
      id: this.tensors.length,
      name,
      shape,
      dtype,
      segment: options.segment ?? 'scratch',
      opaque: options.opaque ?? false,
    };
    if (options.keep) t.keep = true;
    if (options.view) t.view = options.view;
    this.tensors.push(t);
    return t;
  }

  /** A float64 scalar. */
  scalar(name: string, segment: SegmentName = 'scratch'): Tensor {
    return this.tensor(name, [1, 1, 1, 1, 1], 'f64', { segment });
  }

  /** Packed weights or a workspace: the backend says how large. */
  opaque(name: string): Tensor {
    return this.tensor(name, [1, 1, 1, 1, 1], 'u8', { opaque: true });
  }

  /** An input that the host writes before the program runs; asked for again, it is the same tensor. */
  input(name: string, shape: Shape, dtype: DType = this.activation): Tensor {
    const known = this.given(name, shape, dtype);
    if (known?.given === 'input') return known;
    const t = this.tensor(name, shape, dtype, { segment: 'io' });
    t.given = 'input';
    return t;
  }

  /**
   * Numbers that the program carries: a tensor in io that whoever runs the program writes with the step's input
   * (`CompiledProgram.constants`). The same numbers under the same name are the same tensor.
   * @param shape the numbers in a row where absent
   */
  constant(name: string, values: ArrayLike<number>, dtype: DType = 'f64', shape?: Shape): Tensor {
    // Bytes of the program's own, whatever becomes of the values.
    const bytes = encode(dtype, values, name).slice();
    const whole = shape ?? [values.length, 1, 1, 1, 1];
    if (sizeOf(whole) !== values.length)
      throw new MaclError('program', `${name}: ${values.length} numbers for ${showShape(whole)}`);
    const known = this.given(name, whole, dtype);
    if (known?.constant && known.constant.every((byte, i) => byte === bytes[i])) return known;
    const t = this.tensor(name, whole, dtype, { segment: 'io' });
    t.given = 'constant';
    t.constant = bytes;
    return t;
  }

  /** What is given under a name, where shape and dtype are the same too. */
  private given(name: string, shape: Shape, dtype: DType): Tensor | undefined {
    return this.tensors.find((t) => t.given && t.name === name && t.dtype === dtype && sameShape(t.shape, shape));
  }

  /**
   * Lays tensors that nothing else lies in yet side by side in one flat tensor, of which they become dense views.
   * @returns the flat tensor, [Σ sizes, 1, 1, 1, 1], in the order of `tensors`
   */
  sideBySide(name: string, tensors: readonly Tensor[]): Tensor {
    const [first] = tensors;
    if (!first) throw new MaclError('program', `${name}: nothing to lay side by side`);
    const inside = new Set(this.tensors.map((t) => t.view?.of));
    tensors.forEach((t, i) => {
      const free = t.segment === 'scratch' && !t.view && !t.keep && !t.opaque && !inside.has(t);
      if (!free || t.dtype !== first.dtype || tensors.indexOf(t) !== i)
        throw new MaclError('program', `${name}: ${t.name} cannot lie in it`, {
          field: t.name,
          expected: `scratch of ${first.dtype} that is no view, has none and comes once`,
          found: `${t.segment} of ${t.dtype}`,
        });
    });
    const total = tensors.reduce((sum, t) => sum + sizeOf(t.shape), 0);
    const flat = this.tensor(name, [total, 1, 1, 1, 1], first.dtype);
    let offset = 0;
    for (const t of tensors) {
      t.view = { of: flat, offset, dense: true };
      offset += sizeOf(t.shape);
    }
    return flat;
  }

  /** Makes a tensor a result: it lies in io under this name, and the host reads it afterwards. */
  output(t: Tensor, name: string): Tensor {
    const m = t as Mutable<Tensor>;
    if (t.view || t.segment === 'state' || t.segment === 'store' || t.given)
      throw new MaclError('program', `${name}: an input, a view or a persistent tensor cannot be an output`);
    if (t.segment === 'io' && t.name !== name)
      throw new MaclError('program', `${name}: the tensor is the result ${t.name} already`);
    m.segment = 'io';
    m.name = name;
    return t;
  }

  emit(kernel: string, attrs: Node['attrs'], inputs: NamedTensors, outputs: NamedTensors, commit = false): Node {
    const def = kernelDef(kernel);
    const take = (ports: typeof def.inputs, given: NamedTensors): (Tensor | null)[] => {
      for (const name of Object.keys(given))
        if (!ports.some((p) => p.name === name)) throw new MaclError('program', `${kernel} has no tensor ${name}`);
      return ports.map((p) => {
        const t = given[p.name] ?? null;
        if (!t && !p.optional) throw new MaclError('program', `${this.scope}: ${kernel} lacks ${p.name}`);
        return t;
      });
    };
    for (const name of Object.keys(attrs))
      if (!def.fields.some((f) => f.name === name))
        throw new MaclError('program', `${kernel} has no attribute ${name}`);
    const node: Node = {
      id: this.nodes.length,
      kernel,
      attrs,
      inputs: take(def.inputs, inputs),
      outputs: take(def.outputs, outputs),
      commit,
      scope: this.scope,
      ...(this.forward ? { forward: this.forward } : {}),
    };
    checkDTypes(node, this.real);
    this.nodes.push(node);
    for (const t of node.outputs) if (t && !this.producers.has(t)) this.producers.set(t, node);
    return node;
  }

  /** As emit, for a kernel with one output that depends on nothing but its inputs; made once for equal arguments. */
  emitOnce(kernel: string, attrs: Node['attrs'], inputs: NamedTensors, output: string, make: () => Tensor): Tensor {
    const ids = Object.entries(inputs).map(([k, t]) => `${k}=${t?.id}`);
    const key = `${kernel}(${ids.join()})${JSON.stringify(attrs)}`;
    const known = this.once.get(key);
    if (known) return known.outputs[0] as Tensor;
    const t = make();
    this.once.set(key, this.emit(kernel, attrs, inputs, { [output]: t }));
    return t;
  }

  /** What `emitOnce` made is made anew from here on: to be held in memory it would have to live until its last use. */
  forgetOnce(): void {
    this.once.clear();
  }

  /** A view of `x` as a node without a kernel, so that gradients find their way. */
  alias(kernel: string, x: Tensor, shape: Shape, view: Omit<View, 'of'>): Tensor {
    const y = this.tensor(`${x.name}.${kernel}`, shape, x.dtype, { view: { ...view, of: x } });
    this.emit(kernel, {}, { x }, { y });
    return y;
  }

  /** The node that wrote a tensor first, if any did. */
  producer(t: Tensor): Node | undefined {
    return this.producers.get(t);
  }

  finish(): Graph {
    const compute = this.nodes.filter((n) => !n.commit);
    const commit = this.nodes.filter((n) => n.commit);
    if (commit.length > 0 && !this.guard) throw new MaclError('program', 'commit nodes need a guard');
    return { nodes: [...compute, ...commit], tensors: this.tensors, guard: this.guard };
  }
}

/** [N, D, H, W, C] with other channels. */
export function withChannels(shape: Shape, c: number): Shape {
  return [shape[0], shape[1], shape[2], shape[3], c];
}

export { sizeOf };
