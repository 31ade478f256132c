/**
 * Runs a step of a golden file through the library's own pieces (network, graph, compiler, backend), without the command
 * line: state and batch written by name, results read by name, with the names of `macl step`.
 */
import type { Backend, Fusion, Session } from '../../src/backend/types.js';
import { resolveConfig } from '../../src/config/index.js';
import { writeConstants, type CompiledProgram } from '../../src/graph/compile.js';
import { declareNetwork, type Network } from '../../src/methods/network.js';
import { compileStep, type StepSizes } from '../../src/methods/step.js';
import { GRADIENTS } from '../../src/methods/update.js';
import type { Arithmetic } from '../../src/arithmetic.js';
import type { Precision } from '../../src/precision.js';
import { withTrain } from '../../src/settings/with-train.js';
import type { Triple } from '../../src/volume.js';
import { addressOfEntry, type StateEntry, type StateTable } from '../../src/nn/state.js';
import type { Golden } from './fixtures.js';
import { decode, encode } from './rig.js';

/** A configuration of `macl step`, as far as the golden files use it. */
export interface StepConfig {
  readonly task: 'pretrain' | 'finetune';
  readonly method?: string;
  readonly model: {
    readonly backbone?: string;
    readonly dims: 2 | 3;
    readonly inChannels: number;
    readonly filters: number;
    readonly levels: number;
    readonly decoderBlocks: number;
    readonly classes?: number;
    readonly strides?: readonly Triple[];
    readonly kernels?: readonly Triple[];
  };
  /** By the method's own keys. */
  readonly loss: { readonly [key: string]: unknown };
  readonly optimizer: {
    readonly name: 'sgd' | 'adam';
    readonly lr: number;
    readonly momentum?: number;
    readonly weightDecay?: number;
  };
}

export interface StepMeta {
  readonly config: StepConfig;
}

/** Tensors [B, C, D, H, W] and labels [B, D, H, W] by name, as `macl step` takes them. */
export interface StepData {
  readonly config: StepConfig;
  /** Parameters and running statistics by name; the count is what the tensor holds. */
  readonly weights: (name: string, count: number) => ArrayLike<number>;
  readonly batch: ReadonlyMap<string, { shape: readonly number[]; values: Float64Array }>;
}

export function stepData(golden: Golden<StepMeta>): StepData {
  const weights = (name: string) => golden.values(`weights.${name}`);
  const batch = new Map(
    golden.names('batch.').map((k) => {
      const name = `batch.${k}`;
      return [k, { shape: golden.shape(name), values: golden.values(name) }];
    }),
  );
  return { config: golden.meta.config, weights, batch };
}

/** [B, C, …] → [B, …, C] */
function channelsLast(values: Float64Array, shape: readonly number[]): Float64Array {
  const [n = 1, c = 1, ...rest] = shape;
  const voxels = rest.reduce((a, b) => a * b, 1);
  const out = new Float64Array(values.length);
  for (let i = 0; i < n; i++)
    for (let k = 0; k < c; k++)
      for (let v = 0; v < voxels; v++) out[(i * voxels + v) * c + k] = values[(i * c + k) * voxels + v] as number;
  return out;
}

export interface StepOptions {
  readonly fusions?: ReadonlySet<Fusion>;
  /** Overrides the configuration's learning rate. */
  readonly lr?: number;
  /** Scopes that are computed again in the backward pass. */
  readonly recompute?: readonly string[];
  readonly precision?: Precision;
  readonly arithmetic?: Arithmetic;
}

/** Of a batch [B, C, D, H, W], by the first view of the method. */
function sizesIn({ batch }: StepData, { method, config }: Network): StepSizes {
  const first = batch.get(method.views(config)[0]!.name)?.shape ?? [];
  const [samples = 1, , d = 1, h = 1, w = 1] = first;
  const rows = method.inputs(config).map(({ name }) => [name, batch.get(name)?.shape.slice(1) ?? []] as const);
  return { batch: samples, patch: [d, h, w], rows: Object.fromEntries(rows) };
}

export class StepRun {
  private readonly loaded;
  private constructor(
    readonly session: Session,
    readonly program: CompiledProgram,
    readonly state: StateTable,
  ) {
    this.loaded = session.load(program.bytes);
  }

  static async create(backend: Backend, data: StepData, options: StepOptions = {}): Promise<StepRun> {
    const { config } = data;
    const net = declareNetwork(withTrain(resolveConfig(config), options), backend.info, 'training');
    const { state } = net;
    const program = compileStep(net, backend, { source: 'given', sizes: sizesIn(data, net), ...options });
    const run = new StepRun(await backend.createSession(program.sizes), program, state);
    for (const entry of state.entries) {
      if (entry.role !== 'parameter' && entry.role !== 'statistic') continue;
      run.writeEntry(
        entry,
        data.weights(
          entry.name,
          entry.shape.reduce((a, b) => a * b, 1),
        ),
      );
    }
    const images = new Set(net.method.views(net.config).flatMap((v) => (v.kind === 'labels' ? [] : [v.name])));
    for (const [name, { shape, values }] of data.batch) {
      const last = images.has(name) ? channelsLast(values, shape) : values;
      run.writeInput(name, last);
    }
    run.writeInput('lr', [options.lr ?? config.optimizer.lr]);
    return run;
  }

  writeInput(name: string, values: ArrayLike<number>): void {
    const slot = this.program.io.get(name);
    if (!slot) throw new Error(`the program has no input ${name}`);
    const bytes = encode(values, slot.dtype);
    if (bytes.length !== slot.bytes) throw new Error(`${name} takes ${slot.bytes} bytes, given ${bytes.length}`);
    this.session.write('io', slot.offset, bytes);
  }

  entry(name: string): StateEntry {
    const entry = this.state.entries.find((e) => e.name === name);
    if (!entry) throw new Error(`the state has no ${name}`);
    return entry;
  }

  writeEntry(entry: StateEntry, values: ArrayLike<number>): void {
    this.session.write('state', addressOfEntry(this.state, entry).offset, encode(values, entry.tensor.dtype));
  }

  readEntry(entry: StateEntry): Float64Array {
    const { offset, bytes } = addressOfEntry(this.state, entry);
    return decode(this.session.read('state', offset, bytes), entry.tensor.dtype);
  }

  async step(): Promise<boolean> {
    writeConstants(this.session, this.program);
    return (await this.session.run(this.loaded)).committed;
  }

  result(name: string): Float64Array {
    const slot = this.program.io.get(name);
    if (!slot) throw new Error(`the program has no result ${name}`);
    return decode(this.session.read('io', slot.offset, slot.bytes), slot.dtype);
  }

  /** loss, loss.…, as numbers. */
  losses(): Map<string, number> {
    const names = [...this.program.io.keys()].filter((k) => k === 'loss' || k.startsWith('loss.'));
    return new Map(names.map((k) => [k, this.result(k)[0] as number]));
  }

  /** grad.<name> of every parameter. */
  gradients(): Map<string, Float64Array> {
    const slot = this.program.kept.get(GRADIENTS);
    if (!slot) throw new Error('the gradients were not kept');
    const flat = decode(this.session.read('scratch', slot.offset, slot.bytes), slot.dtype);
    const out = new Map<string, Float64Array>();
    for (const e of this.state.entries) {
      if (e.role !== 'parameter') continue;
      const start = e.tensor.view?.offset ?? 0;
      const count = e.shape.reduce((a, b) => a * b, 1);
      out.set(`grad.${e.name}`, flat.slice(start, start + count));
    }
    return out;
  }

  /** new.<name> of every parameter and running statistic. */
  after(): Map<string, Float64Array> {
    const kept = this.state.entries.filter((e) => e.role === 'parameter' || e.role === 'statistic');
    return new Map(kept.map((e) => [`new.${e.name}`, this.readEntry(e)]));
  }

  /** Everything that `macl step` writes. */
  outputs(): Map<string, Float64Array> {
    const losses = [...this.losses()].map(([k, v]): [string, Float64Array] => [k, Float64Array.of(v)]);
    return new Map([...losses, ...this.gradients(), ...this.after()]);
  }

  close(): Promise<void> {
    return this.session.close();
  }
}
