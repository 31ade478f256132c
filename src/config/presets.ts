/**
 * Named sets of values that stand between what a user gives and the defaults. `paper-2d` is the published setting,
 * `code-2d` the released code's; both are 2-D. `default` is empty: the defaults and the planner say everything.
 */
import type { Method } from '../methods/index.js';
import { mergeConfig } from './merge.js';
import type { ConfigInput, PresetName, Task } from '../settings/types.js';

export const PRESETS: readonly PresetName[] = ['default', 'paper-2d', 'code-2d'];

/** Both papers' and code's network: 4 levels of 32 filters, n = 2, so λ = 1/4. */
const UNET_2D = { dims: 2, filters: 32, levels: 4, decoderBlocks: 2 } as const;

const SPATIAL = { rotation: 180, scale: [0.7, 1.3], translation: 0.1, interpolation: 'cubic' } as const;

const paper: Record<Task, ConfigInput> = {
  pretrain: {
    task: 'pretrain',
    model: UNET_2D,
    // 0.1 in the paper, 0.01 in the released scripts.
    optimizer: { name: 'sgd', lr: 0.1, momentum: 0.9, weightDecay: 1e-5, schedule: 'cosine', lrFinal: 0 },
    data: { position: 'slice' },
    train: { batch: 16 },
    augment: { ...SPATIAL, nonSpatial: 'identity' },
  },
  finetune: {
    task: 'finetune',
    model: UNET_2D,
    optimizer: { name: 'adam', lr: 5e-4, weightDecay: 0, schedule: 'cosine', lrFinal: 5e-6 },
    train: { batch: 4 },
    augment: { ...SPATIAL, intensity: { brightness: 0, contrast: 0, noise: 0 } },
  },
};

/**
 * What the released code does otherwise than the paper: intensities change in the views without spatial change, the learning
 * rate is 0.01, the contrastive losses are multiplied by τ / 0.07, fine-tuning decays weights, the cosine has a floor, linear
 * layers begin as PyTorch's, and a network of four channels is given one of them four times.
 */
const code: Record<Task, ConfigInput> = {
  pretrain: {
    task: 'pretrain',
    optimizer: { lr: 0.01, schedule: 'cosine-floor', lrFinal: 5e-6 },
    init: { linear: 'pytorch', channels: 'repeat' },
    augment: {
      mirror: true,
      probability: 0.67,
      nonSpatial: 'code',
      intensity: { brightness: 0.2, contrast: 0.2, noise: 0 },
    },
  },
  finetune: {
    task: 'finetune',
    optimizer: { weightDecay: 1e-5, schedule: 'cosine-floor', lrFinal: 5e-6 },
    init: { linear: 'pytorch', channels: 'repeat' },
    augment: { mirror: true, probability: 0.67 },
  },
};

/** @param method whose loss a preset may say something of */
export function presetInput(name: PresetName, method: Method): ConfigInput | undefined {
  if (name === 'default') return undefined;
  const { task } = method;
  const values = name === 'paper-2d' ? paper[task] : mergeConfig<ConfigInput>(paper[task], code[task]);
  return mergeConfig<ConfigInput>(values, method.presets?.[name]);
}

/** What a preset's model says and this software does not do yet; for people. */
export function presetLacks(name: PresetName): string[] {
  if (name !== 'code-2d') return [];
  return [
    'elastic deformation (with probability 0.67, alpha 100–350, sigma 14–17)',
    'blur in the views without spatial change',
    'several GPUs with synchronised BatchNorm',
    "the prefiltered B-spline of its cubic interpolation (here: Keys' kernel, a = −0.5)",
    'the published evaluation protocol (Dice pooled over slices, HD95 and ASD per slice in pixels)',
  ];
}
