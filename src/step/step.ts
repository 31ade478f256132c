/**
 * One training step on a given batch, without augmentation: the contract of `macl step`, by which this software is held
 * against other frameworks. Weights, batch and results are safetensors tensors in PyTorch's layouts.
 */
import type { Backend } from '../backend/types.js';
import { asFloat64, asInt32, rawTensor, type RawTensor } from '../data/safetensors.js';
import { checkPatch } from '../config/index.js';
import type { ResolvedConfig } from '../settings/types.js';
import { MaclError } from '../errors.js';
import { GraphBuilder } from '../graph/builder.js';
import { compile, type CompiledProgram } from '../graph/compile.js';
import { buildPretrainStep } from '../methods/macl.js';
import { declarePretrainNetwork, declareSegmentNetwork } from '../methods/network.js';
import { buildFinetuneStep } from '../methods/segment.js';
import { GRADIENTS } from '../methods/update.js';
import type { StateTable } from '../nn/state.js';
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
  const build = config.task === 'pretrain' ? pretrainProgram(input, config) : finetuneProgram(input, config);
  const { program, state, values } = build;
  const segment = await weightsState(state, input.weights, input.files.weights, backend.info);
  const executor = await Executor.open(backend, [program], segment);
  try {
    for (const [name, numbers] of values) executor.set(program, name, numbers);
    executor.set(program, 'lr', [config.optimizer.lr]);
    for (let i = 0; i < input.steps; i++) await executor.run(program, input.signal ? { signal: input.signal } : {});
    const out = new Map<string, RawTensor>();
    const wide = backend.info.real === 'f64';
    for (const name of program.io.keys()) {
      if (name !== 'loss' && !name.startsWith('loss.')) continue;
      const value = [executor.scalar(program, name)];
      out.set(name, rawTensor(wide ? Float64Array.from(value) : Float32Array.from(value), [1]));
    }
    for (const [name, t] of gradientTensors(state, executor.kept(program, GRADIENTS))) out.set(name, t);
    for (const [name, t] of stateTensors(state, executor.readState(), ['parameter', 'statistic']))
      out.set(`new.${name}`, t);
    return out;
  } finally {
    await executor.close();
  }
}

interface Built {
  readonly program: CompiledProgram;
  readonly state: StateTable;
  readonly values: ReadonlyMap<string, ArrayLike<number>>;
}

function pretrainProgram(input: StepInput, config: Extract<ResolvedConfig, { task: 'pretrain' }>): Built {
  const { model, loss, optimizer } = config;
  const names = ['i1', 'i2', 'v1', 'v2'] as const;
  const first = take(input, 'i1', 5);
  const [batch, channels, d, h, w] = first.shape as [number, number, number, number, number];
  const values = new Map<string, ArrayLike<number>>();
  for (const name of names) values.set(name, channelsLast(take(input, name, 5, first.shape), name));
  if (channels !== model.inChannels) throw wrongShape(input, 'i1', `${model.inChannels} channels`, first.shape);
  checkPatch([d, h, w], model, 'pretrain', input.files.batch);
  const pos = take(input, 'pos', 2);
  const axes = pos.shape[1] as number;
  if (pos.shape[0] !== batch || axes < 1 || axes > 3) throw wrongShape(input, 'pos', `[${batch}, 1…3]`, pos.shape);
  values.set('pos', asFloat64(pos, 'pos'));
  const { real } = input.backend.info;
  const net = declarePretrainNetwork(model, optimizer, real, config.init.linear);
  const step = {
    batch,
    patch: [d, h, w] as const,
    positionAxes: axes,
    loss,
    optimizer,
    views: { kind: 'given' as const },
  };
  const graph = buildPretrainStep(net, step, new GraphBuilder(real));
  return { program: compile(graph, input.backend, net.state, 0), state: net.state, values };
}

function finetuneProgram(input: StepInput, config: Extract<ResolvedConfig, { task: 'finetune' }>): Built {
  const { model, loss, optimizer } = config;
  const x = take(input, 'x', 5);
  const [batch, channels, d, h, w] = x.shape as [number, number, number, number, number];
  if (channels !== model.inChannels) throw wrongShape(input, 'x', `${model.inChannels} channels`, x.shape);
  checkPatch([d, h, w], model, 'finetune', input.files.batch);
  const y = take(input, 'y', 4, [batch, d, h, w]);
  const values = new Map<string, ArrayLike<number>>([
    ['x', channelsLast(x, 'x')],
    ['y', asInt32(y, 'y')],
  ]);
  const { real } = input.backend.info;
  const net = declareSegmentNetwork(model, optimizer, real);
  const step = { batch, patch: [d, h, w] as const, loss, optimizer, samples: { kind: 'given' as const } };
  const graph = buildFinetuneStep(net, step, new GraphBuilder(real));
  return { program: compile(graph, input.backend, net.state, 0), state: net.state, values };
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
