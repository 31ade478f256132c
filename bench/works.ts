/** Whole steps and inference that benchmarks run: programs, and what goes in. */
import type { Arithmetic } from '../src/arithmetic.js';
import type { Backend } from '../src/backend/types.js';
import { resolveConfig } from '../src/config/index.js';
import type { CompiledProgram } from '../src/graph/compile.js';
import { declareNetwork, declareSegmentation } from '../src/methods/network.js';
import { compileInference } from '../src/methods/inference.js';
import { compileStep } from '../src/methods/step.js';
import { Breather } from '../src/breathe.js';
import { foldState } from '../src/model/fold.js';
import { initialState } from '../src/model/network-state.js';
import type { FoldedNorm } from '../src/ops/conv3d-fold.js';
import { Executor } from '../src/model/executor.js';
import type { StateTable } from '../src/nn/state.js';
import type { Precision } from '../src/precision.js';
import type { FinetuneConfig, ModelConfig, ResolvedConfig } from '../src/settings/types.js';
import type { Triple } from '../src/volume.js';

export type Model = Partial<ModelConfig> & Pick<ModelConfig, 'dims'>;

interface Built {
  readonly program: CompiledProgram;
  readonly state: StateTable;
  readonly norms?: readonly FoldedNorm[];
}

/** With its first weights; what these are before they are folded is given to `onWeights`. */
export async function openWork(
  backend: Backend,
  { program, state, norms = [] }: Built,
  onWeights: (bytes: Uint8Array) => unknown = () => undefined,
): Promise<Executor> {
  const bytes = initialState(state, 1, backend.info);
  await onWeights(bytes);
  await foldState(state, bytes, norms, new Breather());
  return Executor.open(backend, [program], bytes);
}

export interface Work {
  readonly name: string;
  readonly kind: 'pretrain' | 'finetune' | 'inference';
  readonly batch: number;
  readonly config: ResolvedConfig;
  build(backend: Backend): Built;
}

export const CLASSES = 3;

/** How a network computes. */
export interface Computing {
  readonly arithmetic: Arithmetic;
  readonly precision: Precision;
}

const KINDS = ['pretrain', 'finetune', 'inference'] as const satisfies readonly Work['kind'][];

/** A pre-training step, a fine-tuning step and an inference of one network, or some of these. */
export function works(
  label: string,
  model: Model,
  batch: number,
  patch: Triple,
  computing: Computing,
  kinds: readonly Work['kind'][] = KINDS,
): Work[] {
  const common = { data: { patch, position: 'centre' }, train: { batch, ...computing } } as const;
  const given = { ...model, inChannels: 1 };
  const pretrain = () => resolveConfig({ task: 'pretrain', ...common, model: given });
  const finetune = () => {
    return resolveConfig({ task: 'finetune', ...common, model: { ...given, classes: CLASSES } }) as FinetuneConfig;
  };
  const training = (kind: 'pretrain' | 'finetune', config: ResolvedConfig): Work => ({
    name: `${label} ${kind}`,
    kind,
    batch,
    config,
    build(b) {
      const net = declareNetwork(config, b.info, 'training');
      return { program: compileStep(net, b, { source: 'given' }), state: net.state };
    },
  });
  const inference = (config: FinetuneConfig): Work => ({
    name: `${label} inference`,
    kind: 'inference',
    batch,
    config,
    build(b) {
      const net = declareSegmentation(config, b.info, 'inference');
      const { program, norms } = compileInference(net, b, { batch, patch, ...computing });
      return { program, state: net.state, norms };
    },
  });
  const made = {
    pretrain: () => training('pretrain', pretrain()),
    finetune: () => training('finetune', finetune()),
    inference: () => inference(finetune()),
  };
  return kinds.map((kind) => made[kind]());
}

export const gflopOf = (work: Work, backend: Backend): number =>
  work
    .build(backend)
    .program.costs()
    .reduce((sum, k) => sum + k.flops, 0) / 1e9;

export const unet = (dims: 2 | 3, filters: number, levels: number, decoderBlocks: number): Model => {
  return { dims, filters, levels, decoderBlocks };
};

/** nnU-Net's plain network, in 3-D: a stage more than levels. */
export const plain = (filters: number, levels: number): Model => {
  return { backbone: 'nnunet-plain', dims: 3, filters, levels };
};

const POOL = Float32Array.from({ length: 2 ** 20 }, () => Math.random() * 2 - 1);

/** Random numbers in −1…1, the same million again and again: a large batch would take longer to draw than to train on. */
export function noise(count: number): Float32Array {
  const out = new Float32Array(count);
  for (let at = 0; at < count; at += POOL.length) out.set(POOL.subarray(0, Math.min(POOL.length, count - at)), at);
  return out;
}

/**
 * Random input of every kind that these programs have; what each was given, by name, as its dtype holds it: another framework
 * is given the same numbers.
 */
export function fillInputs(executor: Executor, program: CompiledProgram): Map<string, Float32Array | Int32Array> {
  const given = new Map<string, Float32Array | Int32Array>();
  for (const [name, slot] of program.io) {
    const count = slot.shape.reduce((p, s) => p * s, 1);
    if (['i1', 'i2', 'v1', 'v2', 'x'].includes(name)) given.set(name, noise(count));
    else if (name === 'y')
      given.set(
        name,
        Int32Array.from({ length: count }, (_, i) => i % CLASSES),
      );
    else if (name === 'pos')
      given.set(
        name,
        Float32Array.from({ length: count }, () => Math.random()),
      );
    else if (name === 'lr') executor.set(program, name, [1e-4]);
  }
  for (const [name, values] of given) {
    executor.set(program, name, values);
    if (program.io.get(name)!.dtype === 'bf16') given.set(name, executor.get(program, name) as Float32Array);
  }
  return given;
}
