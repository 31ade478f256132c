/**
 * Rough sizes and times of a plan, for choosing batch and steps before anything is compiled. They are estimates by
 * arithmetic on shapes; the bytes that a run takes are known exactly from its compiled program. Times are those of two
 * cores with AVX-512, so that a plan does not depend on the machine that makes it.
 */
import { backboneOf } from '../backbones/index.js';
import type { Method } from '../methods/index.js';
import { lambdaOf } from '../settings/lambda.js';
import type { ModelConfig, Triple } from '../settings/types.js';

const channelsAt = (model: ModelConfig, level: number): number => backboneOf(model).narrow(model, model.levels - level);
const volume = (size: Triple): number => size[0] * size[1] * size[2];

interface Pass {
  /** Multiply-adds. */
  readonly work: number;
  /** Values that backward needs. */
  readonly values: number;
}

const add = (...passes: Pass[]): Pass => ({
  work: passes.reduce((s, p) => s + p.work, 0),
  values: passes.reduce((s, p) => s + p.values, 0),
});

function sizesOf(model: ModelConfig, patch: Triple): number[] {
  let voxels = volume(patch);
  return Array.from({ length: model.levels + 1 }, (_, l) => {
    if (l > 0) voxels /= volume(model.strides[l - 1] as Triple);
    return voxels;
  });
}

function encoderPass(model: ModelConfig, patch: Triple): Pass {
  const voxels = sizesOf(model, patch);
  return add(
    ...voxels.map((v, l) => {
      const [f, inputs] = [channelsAt(model, l), l === 0 ? model.inChannels : channelsAt(model, l - 1)];
      const taps = volume(model.kernels[l] as Triple);
      return { work: v * taps * f * (inputs + f), values: 4 * v * f };
    }),
  );
}

function decoderPass(model: ModelConfig, patch: Triple, blocks: number): Pass {
  const voxels = sizesOf(model, patch);
  return add(
    ...Array.from({ length: blocks }, (_, i) => {
      const l = model.levels - 1 - i;
      const [v, f] = [voxels[l] as number, channelsAt(model, l)];
      const taps = volume(model.kernels[l] as Triple);
      return { work: v * (channelsAt(model, l + 1) * f + taps * f * 3 * f), values: 7 * v * f };
    }),
  );
}

/** One sample's forward pass or passes. */
function samplePass(model: ModelConfig, patch: Triple, { passes, decoderBlocks }: Method): Pass {
  const lambda = lambdaOf(model);
  const small: Triple = [patch[0] * lambda[0], patch[1] * lambda[1], patch[2] * lambda[2]];
  const blocks = decoderBlocks(model);
  const decoded = passes.decoded === 'small' ? small : patch;
  const times = (count: number, pass: Pass): Pass[] => Array.from({ length: count }, () => pass);
  return add(
    ...times(passes.full, encoderPass(model, patch)),
    ...times(passes.small, encoderPass(model, small)),
    ...times(passes.decoded === 'small' ? passes.small : passes.full, decoderPass(model, decoded, blocks)),
  );
}

/** Bytes of activations, gradients and state in fp32, roughly. */
export function estimateBytes(model: ModelConfig, patch: Triple, batch: number, method: Method): number {
  const { values } = samplePass(model, patch, method);
  const widest = channelsAt(model, model.levels);
  // Levels as wide as the deepest have as many.
  const deepest = model.strides.filter((_, l) => channelsAt(model, l) === widest).length + 1;
  const parameters = 60 * widest * widest * deepest;
  // Backward holds about a third more than what forward saved; weights, moments, gradients and packed weights: five.
  return Math.round(4 * (1.33 * values * batch + 5 * parameters));
}

/** Multiply-adds a second that a training step reaches on two cores, backward's share included. */
const STEP_RATE = 100e9;

export function estimateStepSeconds(model: ModelConfig, patch: Triple, batch: number, method: Method): number {
  const { work, values } = samplePass(model, patch, method);
  // What is not convolution moves memory: each value is touched some twenty times.
  return batch * ((3 * work) / STEP_RATE + (values * 80) / 20e9);
}
