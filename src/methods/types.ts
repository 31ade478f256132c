/**
 * What a method is to everything above it. A method is one object in one file of this folder and a line in `index.ts`;
 * sampling, training loop, schema, transfer, command line, `macl step`, `inspect` and benchmarks read this and nothing else.
 */
import type { Backbone, Encoder } from '../backbones/index.js';
import type { Sample, View } from '../data/sampling/view.js';
import type { GraphBuilder } from '../graph/builder.js';
import type { DType, Tensor } from '../graph/types.js';
import type { StateBuilder } from '../nn/state.js';
import type { PassStatistics } from '../ops/index.js';
import type { Draws } from '../philox.js';
import type { JsonSchema } from '../settings/json-schema.js';
import type {
  AnyConfig,
  AugmentConfig,
  ConfigInput,
  ModelConfig,
  PresetName,
  Task,
  TrainConfig,
} from '../settings/types.js';
import type { Watchdog } from './watchdog.js';

/** Numbers that enter a step beside its views: positions, boxes, masks. One row a sample. */
export interface NumberInput {
  readonly name: string;
  readonly dtype: DType;
  /** Sizes of a row. */
  readonly sizes: readonly number[];
  /** Of a row in a file (`macl step`), where other sizes fit too; `expected` says which. */
  readonly fits?: { accepts(sizes: readonly number[]): boolean; readonly expected: string };
  /** A sample's row. `draws` are this method's own of the sample. */
  values(sample: Sample, draws: Draws): ArrayLike<number>;
}

/** What a method's modules have at least. */
export interface Modules {
  readonly encoder: Encoder;
}

/** Tensors of one batch, by the names of views and number inputs. */
export type Batch = Readonly<Record<string, Tensor>>;

/** What a batch's graph gives. */
export interface BatchResult {
  /** float64 scalar, differentiated. */
  readonly loss: Tensor;
  /** float64 scalars by the names of `results` (but the loss's): parts of the loss, signs of collapse. */
  readonly results: Readonly<Record<string, Tensor>>;
  /** In the order in which running statistics see the passes. */
  readonly statistics: readonly PassStatistics[];
}

/** Says what does not fit together in a configuration. */
export type Refuse = (field: string, expected: string, found: unknown, why?: string) => never;

export interface Method<C extends AnyConfig = AnyConfig, M extends Modules = Modules> {
  readonly name: string;
  readonly task: Task;
  /** One line, for `--help` and plans. */
  readonly describe: string;
  /** The paper. */
  readonly source: string;

  /** JSON schema of `loss`. */
  readonly lossSchema: JsonSchema;
  /** `loss` with its defaults, which may follow from how many samples meet in a batch. */
  resolveLoss(input: Readonly<Record<string, unknown>>, train: Pick<TrainConfig, 'batch'>): C['loss'];
  /** What presets say of this method's loss. */
  readonly presets?: Partial<Record<PresetName, Pick<ConfigInput, 'loss'>>>;
  /** Where its defaults of `augment` differ from the task's. */
  readonly augment?: Partial<Pick<AugmentConfig, 'intensity'>>;
  /** What does not fit together. `input` is what was given: a default never contradicts. */
  check?(config: C, input: ConfigInput, refuse: Refuse): void;
  /** In words, for a plan. */
  describeLoss(config: C): string;
  /**
   * What of the loss looks at the samples of a batch together, in words: what N batches of one sample are not to one batch of
   * N (`train.accumulate`). Norms are not meant; nothing where it is a mean over samples.
   */
  couples?(config: C): readonly string[];

  /** Samples are positives where their positions differ by less than this: what a plan's share of positive pairs is of. */
  threshold?(loss: C['loss'] | undefined): number | readonly number[];
  /** A branch sees the patch at λ: the patch must divide by all strides over λ. */
  readonly shrinks: boolean;
  /** Decoder blocks that it trains: 0 … n − 1. */
  decoderBlocks(model: ModelConfig): number;
  /** Encoder passes over the whole patch, and over the patch at λ with the trained decoder blocks: for estimates. */
  readonly passes: { readonly full: number; readonly small: number; readonly decoded: 'full' | 'small' };

  /** Patches a sample, each from another case. */
  readonly patches: number;
  /** Patches are centred on foreground as often as `data.foreground` says. */
  readonly foreground: boolean;
  /** In the order in which their warps are drawn. */
  views(config: C): readonly View[];
  inputs(config: C): readonly NumberInput[];

  /** Declares parameters and running statistics; order is part of the format of `state`. */
  declare(s: StateBuilder, backbone: Backbone, config: C): M;
  /** The forward pass of one batch. */
  build(b: GraphBuilder, modules: M, batch: Batch, config: C): BatchResult;
  /**
   * What a step writes to the state beside parameters and running statistics, after the optimiser (averages, queues,
   * centres): commit nodes, so that a skipped step leaves them as they were.
   * @param batches what `build` gave, one a micro-batch
   */
  commit?(b: GraphBuilder, modules: M, batches: readonly BatchResult[]): void;
  /** Names of what a step reports, `loss` first; `gradnorm` and `guard` are added. */
  results(config: C): readonly string[];
  /** Scalars of a step beside the learning rate (momentum of an average, temperature), by name; functions of the step. */
  scalars?(config: C): Readonly<Record<string, (step: number) => number>>;
  /** Signs of collapse: a fresh watch each run. `saved` is what a checkpoint remembered of them. */
  watchdogs?(config: C, saved: Readonly<Record<string, string>>): readonly Watchdog[];
}
