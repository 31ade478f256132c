/**
 * One training step on a given batch, without augmentation: the contract of `macl step`, by which this software is held
 * against other frameworks. Weights, batch and results are safetensors tensors in PyTorch's layouts.
 */
import type { Backend } from '../backend/types.js';
import { asFloat64, asInt32, rawTensor, type RawTensor } from '../data/safetensors.js';
import { checkBottleneck, checkPatch } from '../config/index.js';
import type { ResolvedConfig } from '../settings/types.js';
import { MaclError } from '../errors.js';
import { declareNetwork, type Network } from '../methods/network.js';
import { compileStep, type StepSizes } from '../methods/step.js';
import { GRADIENTS } from '../methods/update.js';
import { MODEL_ROLES } from '../nn/state.js';
import { Executor } from '../model/executor.js';
import { gradientTensors, stateTensors, weightsState } from '../model/network-state.js';

export type Tensors = ReadonlyMap<string, RawTensor>;

export interface StepInput {
  readonly config: ResolvedConfig;
  readonly weights: Tensors;
  readonly batch: Tensors;
  readonly backend: Backend;
  /** Repetitions on the same batch; losses and gradients are the last one's. */
  readonly steps: number;
  /** Names for error messages. */
  readonly files: { readonly weights: string; readonly batch: string };
  readonly signal?: AbortSignal | undefined;
}

/** @returns `loss`, `loss.*`, `grad.<name>` of every parameter, `new.<name>` of every parameter and running statistic */
export async function runStep(input: StepInput): Promise<Map<string, RawTensor>> {
  const { config, backend } = input;
  const net = declareNetwork(config, backend.info, 'training');
  const { state, method } = net;
  const { sizes, values } = takeBatch(input, net);
  const program = compileStep(net, backend, { source: 'given', sizes });
  const scalars = Object.entries(method.scalars?.(config) ?? {});
  const segment = await weightsState(state, input.weights, input.files.weights, backend.info);
  const executor = await Executor.open(backend, [program], segment);
  try {
    for (const [name, numbers] of values) executor.set(program, name, numbers);
    executor.set(program, 'lr', [config.optimizer.lr]);
    for (let i = 0; i < input.steps; i++) {
      for (const [name, at] of scalars) executor.set(program, name, [at(i)]);
      await executor.run(program, input.signal ? { signal: input.signal } : {});
    }
    const out = new Map<string, RawTensor>();
    const wide = backend.info.real === 'f64';
    for (const name of program.io.keys()) {
      if (name !== 'loss' && !name.startsWith('loss.')) continue;
      const value = [executor.scalar(program, name)];
      out.set(name, rawTensor(wide ? Float64Array.from(value) : Float32Array.from(value), [1]));
    }
    for (const [name, t] of gradientTensors(state, executor.kept(program, GRADIENTS))) out.set(name, t);
    for (const [name, t] of stateTensors(state, executor.readState(), MODEL_ROLES)) out.set(`new.${name}`, t);
    return out;
  } finally {
    await executor.close();
  }
}

type Values = ReadonlyMap<string, ArrayLike<number>>;

/** What the method wants of a batch, from the file: views all of one shape, labels on their grid, rows of numbers. */
function takeBatch(input: StepInput, { method, config }: Network): { sizes: StepSizes; values: Values } {
  const { model } = config;
  const views = method.views(config);
  const images = views.filter(({ kind }) => kind !== 'labels');
  const first = take(input, images[0]!.name, 5);
  const [batch, channels, d, h, w] = first.shape as [number, number, number, number, number];
  if (channels !== model.inChannels)
    throw wrongShape(input, images[0]!.name, `${model.inChannels} channels`, first.shape);
  const values = new Map<string, ArrayLike<number>>();
  for (const { name } of images) values.set(name, channelsLast(take(input, name, 5, first.shape), name));
  checkPatch([d, h, w], model, method, input.files.batch);
  checkBottleneck([d, h, w], model, method, batch, input.files.batch);
  for (const { name, kind } of views)
    if (kind === 'labels') values.set(name, asInt32(take(input, name, 4, [batch, d, h, w]), name));
  const rows: Record<string, readonly number[]> = {};
  for (const { name, dtype, sizes, fits } of method.inputs(config)) {
    const found = take(input, name, 1 + sizes.length);
    const [samples, ...row] = found.shape;
    if (samples !== batch || !(fits ? fits.accepts(row) : row.join() === sizes.join()))
      throw wrongShape(input, name, `[${[batch, fits?.expected ?? sizes.join(', ')].join(', ')}]`, found.shape);
    rows[name] = row;
    values.set(name, dtype === 'i32' ? asInt32(found, name) : asFloat64(found, name));
  }
  return { sizes: { batch, patch: [d, h, w], rows }, values };
}

function take(input: StepInput, name: string, rank: number, shape?: readonly number[]): RawTensor {
  const t = input.batch.get(name);
  const { batch: file } = input.files;
  if (!t) throw new MaclError('file', `${file}: lacks the tensor ${name}`, { file, field: name });
  if (t.shape.length !== rank || t.shape.some((s) => s < 1))
    throw wrongShape(input, name, `${rank} sizes of at least 1`, t.shape);
  if (shape && shape.join() !== t.shape.join()) throw wrongShape(input, name, `[${shape.join(', ')}]`, t.shape);
  return t;
}

function wrongShape(input: StepInput, name: string, expected: string, found: readonly number[]): MaclError {
  const { batch: file } = input.files;
  return new MaclError('file', `${file}: ${name}: expected ${expected}, found [${found.join(', ')}]`, {
    file,
    field: name,
    expected,
    found,
  });
}

/** [B, C, D, H, W] → [B, D, H, W, C]. */
function channelsLast(t: RawTensor, name: string): Float64Array {
  const values = asFloat64(t, name);
  const [b = 1, c = 1, ...grid] = t.shape;
  const voxels = grid.reduce((p, s) => p * s, 1);
  if (c === 1) return values;
  const out = new Float64Array(values.length);
  for (let n = 0; n < b; n++)
    for (let k = 0; k < c; k++) {
      const from = (n * c + k) * voxels;
      for (let v = 0; v < voxels; v++) out[(n * voxels + v) * c + k] = values[from + v] as number;
    }
  return out;
}
