/**
 * A configuration's types, written by hand beside `schema.ts` (a test holds them together): what a user may give
 * (`ConfigInput`, nearly everything optional) and what a run works with (`ResolvedConfig`, everything there). Lists by
 * axis are D, H, W; in 2-D, D is the slice axis.
 */
import type { Arithmetic } from '../arithmetic.js';
import type { Precision, PrecisionChoice } from '../precision.js';
import type { Triple } from '../volume.js';
export type { Arithmetic } from '../arithmetic.js';
export type { Precision } from '../precision.js';
export type { Triple } from '../volume.js';

export type Task = 'pretrain' | 'finetune';
export type PresetName = 'default' | 'paper-2d' | 'code-2d';

export interface ModelConfig {
  /** One of the registry of backbones. */
  readonly backbone: string;
  readonly dims: 2 | 3;
  readonly inChannels: number;
  /** Filters of the first level; level l has filters · 2^l. */
  readonly filters: number;
  readonly levels: number;
  /** Decoder blocks n of the dominant branch; λ follows from it (`lambdaOf`). */
  readonly decoderBlocks: number;
  /** One a level, 1 or 2 an axis. */
  readonly strides: readonly Triple[];
  /** One a level, and the centre's; 1 or 3 an axis. */
  readonly kernels: readonly Triple[];
  /**
   * 'blocks': what levels and decoder blocks computed is computed again in the backward pass instead of kept: less memory,
   * more time, the same bits. Says nothing about the result, and is not kept in a model.
   */
  readonly recompute: 'none' | 'blocks';
  /** Classes with the background; fine-tuning only. */
  readonly classes?: number;
}

export interface PretrainLossConfig {
  readonly temperature: number;
  /** Two samples are positives where their positions differ by less on every axis: one number, or one an axis of `pos`. */
  readonly threshold: number | readonly number[];
  readonly weights: { readonly global: number; readonly dense: number; readonly er: number };
  /** 'code': the released code's factor τ / 0.07 on both contrastive losses; 'none': the paper. */
  readonly temperatureFactor: 'none' | 'code';
  /** 'relative': L_ER over the bottlenecks' own size, which shrinking them does not lower; 'absolute': as published. */
  readonly er: 'absolute' | 'relative';
}

export interface FinetuneLossConfig {
  readonly name: 'ce' | 'ce+dice';
  /** One weight a class for the cross-entropy; null: 1 each. */
  readonly classWeights: readonly number[] | null;
  readonly dicePer: 'batch' | 'sample';
}

export interface OptimizerConfig {
  readonly name: 'sgd' | 'adam' | 'adamw';
  readonly lr: number;
  /** SGD's. */
  readonly momentum: number;
  readonly weightDecay: number;
  /** Clip the gradient's global norm to this; 0: never. */
  readonly clip: number;
  /**
   * 'cosine' ends at lrFinal; 'cosine-floor' is the released code's: a cosine to 0, never below lrFinal; 'poly' falls to
   * lrFinal by a power; 'sawtooth' is two of them: first only what `--init` did not load is trained, then everything.
   */
  readonly schedule: 'cosine' | 'cosine-floor' | 'constant' | 'poly' | 'sawtooth';
  readonly lrFinal: number;
  /** Share of the steps over which the rate first rises to `lr`; in both parts of a sawtooth. */
  readonly warmup: number;
  /** Of poly and sawtooth. */
  readonly power: number;
  /** Share of the steps that the first part of a sawtooth takes. */
  readonly sawtooth: number;
  /** Parameters that train in a way of their own. The first group that names a tensor has it; the rest trains as ever. */
  readonly groups: readonly ParameterGroup[];
}

/**
 * What a parameter group goes by: where in the network a tensor lies (projectors: what is none of the backbone's), whether
 * `--init` loaded it, and what it is.
 */
export const PARAMETER_PARTS = [
  'encoder',
  'skip',
  'decoder',
  'head',
  'projectors',
  'loaded',
  'fresh',
  'norms',
  'biases',
] as const;
export type ParameterPart = (typeof PARAMETER_PARTS)[number];

export interface ParameterGroup {
  /** Tensors of any of these. */
  readonly parts: readonly ParameterPart[];
  /** Times the step's learning rate. */
  readonly lr: number;
  /** Whether `optimizer.weightDecay` applies. */
  readonly weightDecay: boolean;
  /** Neither trained nor decayed; norms use the running statistics that they have, and those stay. */
  readonly frozen: boolean;
}

export interface InitConfig {
  /** Linear layers: Kaiming normal as everything else, or PyTorch's own (the released code). */
  readonly linear: 'kaiming' | 'pytorch';
  /** One channel for a network pre-trained on many: sum its first convolution over inputs, or repeat the channel. */
  readonly channels: 'sum' | 'repeat';
}

export type NormalizeKind = 'ct' | 'robust' | 'case' | 'unit' | 'none';
/**
 * How one channel is normalised: 'ct' clips and scales by numbers of the whole data set, 'robust' clips to percentiles of
 * the case and scales by its own numbers, 'case' only scales, 'unit' brings the case's smallest and largest value to 0 and
 * 1, 'none' leaves the values as they are (probabilities).
 */
export type ChannelNormalization =
  | { readonly kind: 'ct'; readonly low: number; readonly high: number; readonly mean: number; readonly std: number }
  | { readonly kind: 'robust'; readonly percentiles: readonly [low: number, high: number] }
  | { readonly kind: 'case' | 'unit' | 'none' };

export interface DataConfig {
  /** null: every case keeps its own spacing. */
  readonly spacingMm: Triple | null;
  /** Voxels, [1, H, W] in 2-D; null: not planned yet. */
  readonly patch: Triple | null;
  /** 'auto' goes by the kind of each channel; a plan has one kind a channel. */
  readonly normalize: 'auto' | readonly NormalizeKind[];
  readonly nonFinite: 'refuse' | 'zero';
  /** Share of fine-tuning patches that are centred on foreground. */
  readonly foreground: number;
  /** Axis of the volume that 2-D slices are taken along. */
  readonly sliceAxis: 'D' | 'H' | 'W';
  /** 'centre': the patch's centre over the volume's size, per axis; 'slice': (i + 1) / n along D alone. */
  readonly position: 'centre' | 'slice';
}

export interface TrainConfig {
  readonly steps: number;
  /** Samples that are computed at once. */
  readonly batch: number;
  /** Batches whose gradients are averaged into one step. */
  readonly accumulate: number;
  readonly seed: number;
  /** What activations are held in; weights stay in float32. */
  readonly precision: Precision;
  /** How convolutions are computed, where a backend has a choice. */
  readonly arithmetic: Arithmetic;
  /** Steps between validations; 0: only at the end. */
  readonly valEvery: number;
  readonly checkpointEvery: number;
  /** null: what affinity and quota leave. Says nothing about the result, and is not kept in a model. */
  readonly threads: number | null;
}

/** Samples of a step. */
export const samplesOf = ({ batch, accumulate }: Pick<TrainConfig, 'batch' | 'accumulate'>): number =>
  batch * accumulate;

export interface IntensityConfig {
  /** Added: uniform in ± this, in standard deviations of the image. */
  readonly brightness: number;
  /** Multiplied: uniform in 1 ± this. */
  readonly contrast: number;
  /** Standard deviation of added noise: uniform in 0 … this. */
  readonly noise: number;
}

export interface AugmentConfig {
  /** Degrees: uniform in ± this, about each axis; in 2-D only about D. */
  readonly rotation: Triple;
  /** One factor a view, uniform in the logarithm between these. */
  readonly scale: readonly [number, number];
  /** Axes that are mirrored with a chance of one half. */
  readonly mirror: readonly [boolean, boolean, boolean];
  /** Shift of the centre: uniform in ± this share of the patch, each axis (in 2-D not along D). */
  readonly translation: number;
  /** Chance of a rotation, and independently of a scale, in a view. */
  readonly probability: number;
  readonly intensity: IntensityConfig;
  /**
   * The views without spatial change: the patch itself (the paper), or with brightness and contrast. 'code': with them, and
   * the spatial views without (the released CHD loader).
   */
  readonly nonSpatial: 'identity' | 'brightness+contrast' | 'code';
  readonly interpolation: 'linear' | 'cubic';
}

interface Common {
  readonly preset: PresetName;
  readonly model: ModelConfig;
  readonly optimizer: OptimizerConfig;
  readonly init: InitConfig;
  readonly data: DataConfig;
  readonly train: TrainConfig;
  readonly augment: AugmentConfig;
}

/** The loss is the method's own: MACL's where nothing is said. */
export interface PretrainConfig<L = PretrainLossConfig> extends Common {
  readonly task: 'pretrain';
  /** One of the registry of methods. */
  readonly method: string;
  readonly loss: L;
}

export interface FinetuneConfig extends Common {
  readonly task: 'finetune';
  readonly model: ModelConfig & { readonly classes: number };
  readonly loss: FinetuneLossConfig;
}

/** Of any method, whose loss nobody but the method knows. */
export type AnyConfig = PretrainConfig<unknown> | FinetuneConfig;
export type ResolvedConfig = PretrainConfig | FinetuneConfig;
export type MaclConfig = ResolvedConfig;

/** A configuration that a plan has completed. */
export type Planned<C extends ResolvedConfig = ResolvedConfig> = C & {
  readonly data: { readonly patch: Triple; readonly normalize: readonly NormalizeKind[] };
};

// What a user may give. --------------------------------------------------------------------------------------------

type Some<T> = { readonly [K in keyof T]?: T[K] };

export type AugmentInput = Omit<Some<AugmentConfig>, 'rotation' | 'mirror' | 'intensity'> & {
  readonly rotation?: number | Triple;
  readonly mirror?: boolean | readonly [boolean, boolean, boolean];
  readonly intensity?: Some<IntensityConfig>;
};

interface CommonInput {
  readonly preset?: PresetName;
  readonly model?: Some<ModelConfig>;
  readonly optimizer?: Omit<Some<OptimizerConfig>, 'groups'> & {
    readonly groups?: readonly (Pick<ParameterGroup, 'parts'> & Some<ParameterGroup>)[];
  };
  readonly init?: Some<InitConfig>;
  readonly data?: Omit<Some<DataConfig>, 'normalize'> & {
    readonly normalize?: 'auto' | NormalizeKind | readonly NormalizeKind[];
  };
  readonly train?: Omit<Some<TrainConfig>, 'precision'> & { readonly precision?: PrecisionChoice | undefined };
  readonly augment?: AugmentInput;
}

export interface PretrainConfigInput extends CommonInput {
  readonly task: 'pretrain';
  readonly method?: string;
  /** MACL's, or another method's by its own keys. */
  readonly loss?:
    | (Omit<Some<PretrainLossConfig>, 'weights'> & { readonly weights?: Some<PretrainLossConfig['weights']> })
    | { readonly [key: string]: unknown };
}

export interface FinetuneConfigInput extends CommonInput {
  readonly task: 'finetune';
  readonly loss?: Some<FinetuneLossConfig>;
}

export type ConfigInput = PretrainConfigInput | FinetuneConfigInput;
