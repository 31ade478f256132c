/**
 * Runs a small graph on a backend: inputs by name, one operation, its gradient rule with a given upstream gradient,
 * results by name. Shared by the golden, parity and gradient tests.
 */
import type { Backend, Fusion, Session } from '../../src/backend/types.js';
import type { GraphBuilder } from '../../src/graph/builder.js';
import * as codec from '../../src/graph/codec.js';
import { compile, writeConstants, type CompiledProgram, type IoSlot } from '../../src/graph/compile.js';
import { differentiateNode } from '../../src/graph/differentiate.js';
import type { DType, Shape, Tensor } from '../../src/graph/types.js';
import { builderFor } from '../../src/methods/precision.js';
import type { Precision } from '../../src/precision.js';
import '../../src/ops/index.js';

/** Values as the bytes of a dtype, in memory of their own. */
export const encode = (values: ArrayLike<number>, dtype: DType): Uint8Array => codec.encode(dtype, values).slice();

export const decode = (bytes: Uint8Array, dtype: DType): Float64Array => Float64Array.from(codec.decode(dtype, bytes));

export interface GradientOptions {
  /** What the gradient tensors hold before; then the kernels are asked to add. Without it they write. */
  readonly addTo?: number;
}

export class Rig {
  readonly b: GraphBuilder;
  private readonly given = new Map<string, ArrayLike<number>>();
  private stored: Uint8Array = new Uint8Array(0);

  constructor(
    readonly backend: Backend,
    precision: Precision = 'fp32',
  ) {
    this.b = builderFor(precision, backend.info);
  }

  input(name: string, shape: Shape, values: ArrayLike<number>, dtype: DType = this.b.activation): Tensor {
    this.give(name, values);
    return this.b.input(name, shape, dtype);
  }

  /** Values of an input that an operation has declared itself. */
  give(name: string, values: ArrayLike<number>): void {
    this.given.set(name, values);
  }

  /** The store segment, for operations that read volumes. */
  store(bytes: Uint8Array): void {
    this.stored = bytes;
  }

  result(name: string, t: Tensor): Tensor {
    return this.b.output(t, name);
  }

  /**
   * Applies the gradient rule of the node that wrote `y`. `dy` is its upstream gradient; results are named d<name>, and are
   * copies: the gradients themselves lie in scratch, as in a network, so that every fusion can take them.
   */
  gradients(
    y: Tensor,
    dy: Tensor,
    targets: Readonly<Record<string, Tensor | null>>,
    options: GradientOptions = {},
  ): void {
    const { b } = this;
    const node = b.producer(y);
    if (!node) throw new Error(`nothing makes ${y.name}`);
    const sinks = new Map<Tensor, Tensor>();
    for (const [name, t] of Object.entries(targets)) {
      if (!t) continue;
      const d = b.tensor(`d.${name}`, t.shape, t.dtype);
      if (options.addTo !== undefined) b.emit('fill_fwd', { value: options.addTo }, {}, { y: d });
      sinks.set(t, d);
    }
    differentiateNode(b, node, new Map([[y, dy]]), sinks, options.addTo !== undefined);
    for (const [name, t] of Object.entries(targets)) {
      const d = t && sinks.get(t);
      if (!d) continue;
      const y = this.result(`d${name}`, b.tensor(`d${name}`, d.shape, d.dtype));
      b.emit('copy_fwd', { accumulate: 0 }, { x: d }, { y });
    }
  }

  /** A float64 scalar constant: the upstream gradient of a loss. */
  constant(value: number): Tensor {
    const t = this.b.scalar('dloss');
    this.b.emit('fill_fwd', { value }, {}, { y: t });
    return t;
  }

  compiled(fusions?: ReadonlySet<Fusion>): CompiledProgram {
    const state = { offsets: new Map<Tensor, number>(), bytes: 0 };
    return compile(this.b.finish(), this.backend, state, this.stored.length, { fusions });
  }

  async ready(fusions?: ReadonlySet<Fusion>): Promise<Ready> {
    const program = this.compiled(fusions);
    const session = await this.backend.createSession(program.sizes);
    if (this.stored.length > 0) session.write('store', 0, this.stored);
    const ready = new Ready(session, program);
    // As the program holds them: bf16 is float64 on the reference.
    for (const [name, values] of this.given) ready.set(name, values);
    return ready;
  }
}

/** A loaded program with its inputs written. */
export class Ready {
  private readonly loaded;

  constructor(
    readonly session: Session,
    readonly program: CompiledProgram,
  ) {
    this.loaded = session.load(program.bytes);
  }

  private slot(name: string): IoSlot {
    const slot = this.program.io.get(name);
    if (!slot) throw new Error(`the program has no input or result ${name}`);
    return slot;
  }

  setBytes(name: string, bytes: Uint8Array): void {
    const { offset, bytes: size } = this.slot(name);
    if (bytes.length !== size) throw new Error(`${name} takes ${size} bytes, given ${bytes.length}`);
    this.session.write('io', offset, bytes);
  }

  set(name: string, values: ArrayLike<number>): void {
    this.setBytes(name, encode(values, this.slot(name).dtype));
  }

  async run(): Promise<void> {
    writeConstants(this.session, this.program);
    await this.session.run(this.loaded);
  }

  read(name: string): Float64Array {
    const { offset, bytes, dtype } = this.slot(name);
    return decode(this.session.read('io', offset, bytes), dtype);
  }

  close(): Promise<void> {
    return this.session.close();
  }
}
