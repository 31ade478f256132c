/**
 * From what a user gives to a configuration with a value everywhere: preset, then defaults, then the checks of what fits
 * together. It looks at no data: `plan.ts` does, and comes through here.
 */
import { PRECISION_FIELD, PRECISIONS } from '../precision.js';
import { ARITHMETIC_OF_BEFORE, DEFAULT_ARITHMETIC } from '../arithmetic.js';
import { BACKBONE_NAMES } from '../backbones/index.js';
import { MaclError } from '../errors.js';
import { methodNamed, type Method } from '../methods/index.js';
import { checkConfig } from './check.js';
import { mergeConfig } from './merge.js';
import { presetInput } from './presets.js';
import { checkSchema } from './schema.js';
import type {
  AugmentConfig,
  AugmentInput,
  ConfigInput,
  DataConfig,
  FinetuneConfig,
  FinetuneConfigInput,
  ModelConfig,
  OptimizerConfig,
  PresetName,
  PretrainConfig,
  PretrainConfigInput,
  ResolvedConfig,
  TrainConfig,
  Triple,
} from '../settings/types.js';

export interface ResolveOptions {
  /** The file or flag that the input came from, for errors. */
  readonly source?: string;
}

/** Checks a value and lays it over its preset. The result has no defaults yet. */
export function readConfig(value: unknown, source?: string): ConfigInput {
  checkDepth(value, source);
  checkSchema(value, source);
  const preset = value.preset ?? 'default';
  if (preset !== 'default' && value.model?.dims === 3) {
    const words = `${source ?? 'configuration'}: model.dims: expected 2, because preset ${preset} is 2-D, found 3`;
    throw new MaclError('config', words, { field: 'model.dims', expected: 2, found: 3 });
  }
  const method = methodNamed(value.task, value.task === 'pretrain' ? value.method : undefined);
  return mergeConfig<ConfigInput>(presetInput(preset, method), scaledFinal(preset, method, value), value);
}

export const [DEFAULT_BACKBONE = ''] = BACKBONE_NAMES;

/** Levels of a configuration; the schema has four. */
const MOST_LEVELS = 16;

/** Before anything walks through it: what is nested without end (or in itself) ends every walk. */
function checkDepth(value: unknown, source?: string): void {
  let level: unknown[] = [value];
  for (let depth = 0; level.length > 0; depth++) {
    if (depth > MOST_LEVELS) {
      const words = `${source ?? 'configuration'}: expected at most ${MOST_LEVELS} levels of nesting, found more`;
      throw new MaclError('config', words, { expected: MOST_LEVELS });
    }
    level = level.flatMap((v) => (typeof v === 'object' && v !== null ? Object.values(v as object) : []));
  }
}

/** Where only the rate is given over a preset's, the rate that the preset ends at keeps its share of it. */
function scaledFinal(
  preset: PresetName,
  method: Method,
  { optimizer: given }: ConfigInput,
): Partial<ConfigInput> | undefined {
  const { lr, lrFinal } = presetInput(preset, method)?.optimizer ?? {};
  if (given?.lr === undefined || given.lrFinal !== undefined || !lr || !lrFinal) return undefined;
  return { optimizer: { lrFinal: lrFinal * (given.lr / lr) } };
}

/** @throws MaclError `config` with path, expected and found */
export function resolveConfig(value: unknown, options: ResolveOptions = {}): ResolvedConfig {
  const input = readConfig(value, options.source);
  const config = input.task === 'pretrain' ? pretrain(input) : finetune(input);
  checkConfig(config, input, options.source ?? 'configuration');
  return config;
}

function pretrain(input: PretrainConfigInput): PretrainConfig {
  const method = methodNamed('pretrain', input.method);
  const model = modelOf(input.model ?? {});
  const loss = method.resolveLoss(input.loss ?? {}, trainOf(input)) as PretrainConfig['loss'];
  return {
    task: 'pretrain',
    method: method.name,
    preset: input.preset ?? 'default',
    model,
    loss,
    ...shared(input, method, model),
    data: dataOf(input, model, input.loss === undefined ? undefined : method.threshold?.(loss)),
  };
}

function finetune(input: FinetuneConfigInput): FinetuneConfig {
  const method = methodNamed('finetune');
  const model = modelOf(input.model ?? {});
  return {
    task: 'finetune',
    preset: input.preset ?? 'default',
    // Absent classes are refused by the checks; 0 is what "not known" looks like until then.
    model: { ...model, classes: input.model?.classes ?? 0 },
    loss: method.resolveLoss({ ...input.loss }, trainOf(input)) as FinetuneConfig['loss'],
    ...shared(input, method, model),
    data: dataOf(input, model),
  };
}

function shared(input: ConfigInput, method: Method, model: ModelConfig) {
  return {
    optimizer: optimizerOf(input),
    init: { linear: input.init?.linear ?? 'kaiming', channels: input.init?.channels ?? 'sum' } as const,
    train: trainOf(input),
    augment: augmentOf(input, method, model.dims),
  };
}

/** All strides 2 and kernels 3, [1, 2, 2] and [1, 3, 3] in 2-D; the published network elsewhere. */
export function modelOf(input: Partial<ModelConfig>): ModelConfig {
  const dims = input.dims ?? 3;
  const levels = input.levels ?? input.strides?.length ?? (input.kernels ? input.kernels.length - 1 : 4);
  const stride: Triple = dims === 2 ? [1, 2, 2] : [2, 2, 2];
  const kernel: Triple = dims === 2 ? [1, 3, 3] : [3, 3, 3];
  return {
    backbone: input.backbone ?? DEFAULT_BACKBONE,
    dims,
    inChannels: input.inChannels ?? 1,
    filters: input.filters ?? 32,
    levels,
    decoderBlocks: input.decoderBlocks ?? Math.min(2, levels),
    strides: input.strides ?? Array.from({ length: levels }, () => stride),
    kernels: input.kernels ?? Array.from({ length: levels + 1 }, () => kernel),
    recompute: input.recompute ?? 'none',
  };
}

function optimizerOf({ task, optimizer: o = {} }: ConfigInput): OptimizerConfig {
  const name = o.name ?? (task === 'pretrain' ? 'sgd' : 'adam');
  const lr = o.lr ?? (name === 'sgd' ? 0.01 : 5e-4);
  const schedule = o.schedule ?? 'cosine';
  // A fine-tuning's cosine ends at a hundredth: 5e-4 → 5e-6. Polynomials are published to 0.
  const toZero = task === 'pretrain' || schedule === 'poly' || schedule === 'sawtooth';
  return {
    name,
    lr,
    momentum: o.momentum ?? 0.9,
    weightDecay: o.weightDecay ?? (task === 'pretrain' ? 1e-5 : 0),
    clip: o.clip ?? 0,
    schedule,
    lrFinal: o.lrFinal ?? (toZero ? 0 : lr / 100),
    warmup: o.warmup ?? 0,
    power: o.power ?? 0.9,
    sawtooth: o.sawtooth ?? 0.05,
    groups: (o.groups ?? []).map(({ parts, lr: factor = 1, weightDecay = true, frozen = false }) => {
      return { parts, lr: factor, weightDecay, frozen };
    }),
  };
}

function dataOf({ data: d = {} }: ConfigInput, model: ModelConfig, threshold?: number | readonly number[]): DataConfig {
  const { normalize } = d;
  return {
    spacingMm: d.spacingMm ?? null,
    patch: d.patch ?? null,
    normalize:
      normalize === undefined || normalize === 'auto'
        ? 'auto'
        : typeof normalize === 'string'
          ? Array.from({ length: model.inChannels }, () => normalize)
          : normalize,
    nonFinite: d.nonFinite ?? 'refuse',
    foreground: d.foreground ?? 0.33,
    sliceAxis: d.sliceAxis ?? 'D',
    position: d.position ?? defaultPosition(model.dims, threshold),
  };
}

/** What a threshold for each axis is meant for, else a slice's place in 2-D and a patch's in 3-D. */
export function defaultPosition(dims: 2 | 3, threshold?: number | readonly number[]): DataConfig['position'] {
  const axes = typeof threshold === 'object' ? threshold.length : dims === 3 ? 3 : 1;
  return axes === 1 ? 'slice' : 'centre';
}

function trainOf({ task, train: t = {} }: ConfigInput): TrainConfig {
  if (t.precision === 'auto') {
    const words = 'auto is chosen by a training, for its device';
    const details = { field: PRECISION_FIELD, expected: PRECISIONS, found: 'auto' };
    throw new MaclError('config', `${PRECISION_FIELD}: ${words}; expected ${PRECISIONS.join(' or ')} here`, details);
  }
  return {
    steps: t.steps ?? 1000,
    batch: t.batch ?? (task === 'pretrain' ? 8 : 2),
    accumulate: t.accumulate ?? 1,
    seed: t.seed ?? 0,
    precision: t.precision ?? 'fp32',
    arithmetic: t.arithmetic ?? DEFAULT_ARITHMETIC,
    valEvery: t.valEvery ?? 500,
    checkpointEvery: t.checkpointEvery ?? 250,
    threads: t.threads ?? null,
  };
}

function augmentOf({ task, augment: a = {} }: ConfigInput, method: Method, dims: 2 | 3): AugmentConfig {
  const pretraining = task === 'pretrain';
  const nonSpatial = a.nonSpatial ?? 'identity';
  // The published views have no change of intensity; fine-tuning takes a little of each.
  const intensity = pretraining
    ? nonSpatial === 'identity'
      ? { brightness: 0, contrast: 0, noise: 0 }
      : { brightness: 0.2, contrast: 0.2, noise: 0 }
    : { brightness: 0.1, contrast: 0.1, noise: 0.05 };
  return {
    rotation: rotationOf(a.rotation ?? (pretraining ? 20 : 29), dims),
    scale: a.scale ?? [0.8, 1.25],
    mirror: mirrorOf(a.mirror ?? false, dims),
    translation: a.translation ?? (pretraining ? 0.1 : 0.05),
    probability: a.probability ?? 1,
    intensity: { ...intensity, ...method.augment?.intensity, ...a.intensity },
    nonSpatial,
    interpolation: a.interpolation ?? 'linear',
  };
}

function rotationOf(rotation: NonNullable<AugmentInput['rotation']>, dims: 2 | 3): Triple {
  if (typeof rotation !== 'number') return rotation;
  return dims === 2 ? [rotation, 0, 0] : [rotation, rotation, rotation];
}

function mirrorOf(mirror: NonNullable<AugmentInput['mirror']>, dims: 2 | 3): AugmentConfig['mirror'] {
  if (typeof mirror !== 'boolean') return mirror;
  return [mirror && dims === 3, mirror, mirror];
}

/**
 * The part of a configuration that determines what a model's weights mean; it goes into `model.safetensors`. Threads,
 * intervals and recomputation are left out, so that equal runs write equal bytes.
 */
export function meaningOf(config: ResolvedConfig): object {
  const { steps, batch, accumulate, seed, precision, arithmetic } = config.train;
  const { recompute: _, ...model } = config.model;
  const train = { steps, batch, accumulate, seed, precision };
  return { ...config, model, train: { ...train, ...(arithmetic === ARITHMETIC_OF_BEFORE ? {} : { arithmetic }) } };
}
