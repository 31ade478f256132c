/**
 * What the Node API's calls take and give. The command line's flags map onto these one to one. Long calls are
 * asynchronous, take an AbortSignal and report through `onEvent`; errors are MaclError.
 */
import type { BackendReport, DeviceName } from '../backend/types.js';
import type { ConfigInput } from '../config/types.js';
import type { EvaluationDocument } from '../segment/evaluate.js';
import type { KernelCost } from '../graph/program.js';
import type { TrainEvent } from '../train/events.js';

export type { FinetuneOptions } from '../train/finetune.js';
export type { PretrainOptions } from '../train/pretrain.js';
export type { RunSummary } from '../train/trainer.js';

export type MaclEvent =
  | TrainEvent
  /** Tiles of a case that is being segmented. */
  | {
      readonly kind: 'predict';
      readonly id: string;
      readonly index: number;
      readonly total: number;
      readonly done: number;
      readonly tiles: number;
    }
  /** Cases whose metrics are known. */
  | { readonly kind: 'evaluate'; readonly id: string; readonly done: number; readonly total: number };

export type OnMaclEvent = (event: MaclEvent) => void;

/** Every long call. */
export interface CallOptions {
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: OnMaclEvent | undefined;
}

export interface DeviceOptions {
  readonly device?: DeviceName | undefined;
  readonly threads?: number | undefined;
}

export interface PredictOptions extends CallOptions, DeviceOptions {
  /** A run's folder, or a model file. */
  readonly model: string;
  /** A volume, or a folder of volumes. */
  readonly input: string;
  readonly out: string;
  readonly mirror?: boolean | undefined;
  readonly probabilities?: boolean | undefined;
}

export interface PredictSummary {
  readonly files: readonly { readonly id: string; readonly file: string }[];
}

export interface EvaluateOptions extends CallOptions {
  /** Folders of label volumes. */
  readonly pred: string;
  readonly labels: string;
  /** Other predictions, for the paired difference. */
  readonly against?: string | undefined;
}

export type EvaluateSummary = EvaluationDocument;

export interface PrepareOptions extends CallOptions {
  readonly data: string;
  /** Where the prepared cases go; a training call takes them with this as its `cacheDir`. Default: the cache. */
  readonly out?: string | undefined;
  readonly config?: ConfigInput | undefined;
  readonly cases?: string | undefined;
  readonly skipBad?: boolean | undefined;
  readonly followLinks?: boolean | undefined;
}

export interface PrepareSummary {
  readonly folder: string;
  readonly cases: number;
  readonly labelled: number;
  readonly bytes: number;
  readonly skipped: readonly { readonly id: string; readonly reason: string }[];
}

/** One training step on a given batch. */
export interface StepOptions extends DeviceOptions {
  /** A JSON file. */
  readonly config: string;
  /** safetensors files. */
  readonly weights: string;
  readonly batch: string;
  readonly out: string;
  /** Repetitions on the same batch; default 1. */
  readonly steps?: number | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface StepSummary {
  readonly out: string;
  /** `loss`, `loss.*` of the last step. */
  readonly results: Readonly<Record<string, number>>;
}

export interface InspectOptions extends DeviceOptions {
  /** A configuration with `data.patch` and `train.batch`: its step's program is compiled and described. */
  readonly program?: string | undefined;
  readonly signal?: AbortSignal | undefined;
}

export interface InspectSummary {
  readonly version: string;
  readonly node: string;
  readonly platform: string;
  readonly cpu: { readonly model: string; readonly cores: number };
  readonly devices: readonly BackendReport[];
  /** What `auto` takes; null where nothing works. */
  readonly default: string | null;
  /** Of the device that was asked for, or of the default. */
  readonly used: {
    readonly device: string;
    readonly isa: string;
    readonly threads: number;
    readonly maxBytes: number;
  } | null;
  readonly program?: ProgramSummary;
}

export interface ProgramSummary {
  /** One line a kernel. */
  readonly text: string;
  readonly kernels: readonly KernelCost[];
  readonly flops: number;
  /** Bytes that kernels read and write. */
  readonly trafficBytes: number;
  readonly stateBytes: number;
  readonly scratchBytes: number;
  readonly scratchBytesWithoutReuse: number;
  readonly ioBytes: number;
}

export interface QuickstartOptions extends CallOptions, DeviceOptions {
  /** Default `./macl-quickstart`, or a numbered sibling where that is taken. */
  readonly out?: string | undefined;
  readonly seed?: number | undefined;
}

export interface QuickstartSummary {
  readonly out: string;
  /** `scratch` and `pre-trained`: mean Dice over unseen cases with its 95% interval. */
  readonly rows: readonly {
    readonly name: string;
    readonly dice: number | null;
    readonly ci95: readonly [number, number] | null;
  }[];
  /** The paired difference, pre-trained − scratch. */
  readonly difference: { readonly dice: number | null; readonly ci95: readonly [number, number] | null };
  /** The table, for people. */
  readonly table: string;
  readonly contactSheet: string;
  readonly runs: readonly string[];
  readonly elapsedMs: number;
}
