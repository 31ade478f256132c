/**
 * What `macl quickstart` trains: sizes and settings that give a meaningful Dice within minutes. All fine-tunings get the
 * same network, labels and seed; two get the same steps and differ in their first weights alone, the third begins from
 * scratch and gets the time of pre-training as well. Steps are fixed: no clock decides a result.
 */
import type { FinetuneConfigInput, PretrainConfigInput, Triple } from '../settings/types.js';
import type { OptionKinds } from '../options.js';

/** How much of everything; tests take less. */
export interface QuickstartSizes {
  readonly trainCases: number;
  readonly testCases: number;
  /** Labelled ones among the training cases: the first of them. */
  readonly labelledCases: number;
  readonly pretrainSteps: number;
  readonly finetuneSteps: number;
  /** Of the fine-tuning that gets pre-training's time as well. */
  readonly longerSteps: number;
  readonly filters: number;
  readonly pretrainPatch: Triple;
  readonly pretrainBatch: number;
  readonly finetunePatch: Triple;
  readonly finetuneBatch: number;
}

export const SIZE_KINDS: OptionKinds<QuickstartSizes> = {
  trainCases: 'count',
  testCases: 'count',
  labelledCases: 'count',
  pretrainSteps: 'count',
  finetuneSteps: 'count',
  longerSteps: 'count',
  filters: 'count',
  pretrainPatch: 'list',
  pretrainBatch: 'count',
  finetunePatch: 'list',
  finetuneBatch: 'count',
};

export const SIZES: QuickstartSizes = {
  trainCases: 24,
  testCases: 12,
  labelledCases: 3,
  pretrainSteps: 200,
  finetuneSteps: 200,
  longerSteps: 450,
  filters: 8,
  pretrainPatch: [16, 32, 32],
  pretrainBatch: 8,
  finetunePatch: [24, 40, 40],
  finetuneBatch: 2,
};

/** The phantoms' own median spacing, fixed so that few labelled cases cannot shift it. */
const SPACING_MM: Triple = [2, 1.25, 1.25];

/** Voxels are flat: the first level halves H and W alone, and then all three sides are nearly equal. */
function network(filters: number) {
  const all: Triple = [3, 3, 3];
  const strides: readonly Triple[] = [
    [1, 2, 2],
    [2, 2, 2],
    [2, 2, 2],
  ];
  return { dims: 3, filters, levels: 3, decoderBlocks: 2, strides, kernels: [all, all, all, all] } as const;
}

export function pretrainSettings(
  sizes: QuickstartSizes,
  steps: number,
  seed: number,
): Omit<PretrainConfigInput, 'task'> {
  return {
    model: network(sizes.filters),
    data: { spacingMm: SPACING_MM, patch: sizes.pretrainPatch },
    // The published equivariance loss is met by a bottleneck that shrinks to nothing, which a short run does first.
    loss: { er: 'relative' },
    // At higher rates, and with SGD at 0.01, the features collapse within 60 steps (docs/pretraining.md).
    optimizer: { name: 'adam', lr: 3e-4 },
    train: { steps, batch: sizes.pretrainBatch, seed },
  };
}

export function finetuneSettings(
  sizes: QuickstartSizes,
  steps: number,
  seed: number,
): Omit<FinetuneConfigInput, 'task'> {
  return {
    model: network(sizes.filters),
    data: { spacingMm: SPACING_MM, patch: sizes.finetunePatch, foreground: 0.5 },
    optimizer: { lr: 4e-3 },
    train: { steps, batch: sizes.finetuneBatch, seed },
  };
}
