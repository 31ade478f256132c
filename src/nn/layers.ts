/**
 * Layers: a convolution with its norm (BatchNorm or InstanceNorm), a transposed convolution, a linear layer. A layer is a record of declared
 * tensors; `apply…` puts its kernels into a graph.
 */
import type { GraphBuilder } from '../graph/builder.js';
import type { Tensor } from '../graph/types.js';
import {
  activation,
  conv3d,
  instanceNorm,
  linear,
  normactEval,
  normactTrain,
  upconv3d,
  type BatchNorm,
  type Norm,
  type PassStatistics,
} from '../ops/index.js';
import type { Triple } from '../volume.js';
import type { Init, StateBuilder } from './state.js';

const LEAKY_SLOPE = 0.01;
const NORM_EPS = 1e-5;

const zeros: Init = { kind: 'constant', value: 0 };
const ones: Init = { kind: 'constant', value: 1 };
const product = (t: Triple) => t[0] * t[1] * t[2];

export interface Conv {
  readonly name: string;
  readonly weight: Tensor;
  readonly bias: Tensor;
}

export interface NormedConv {
  readonly conv: Conv;
  readonly norm: BatchNorm;
}

/** A convolution, which may have a stride, with InstanceNorm. */
export interface Unit {
  readonly conv: Conv;
  readonly stride: Triple;
  readonly norm: Norm;
}

/** How a pass runs: training collects the statistics of each norm, in the order in which they are taken. */
export type PassMode = { readonly kind: 'train'; readonly statistics: PassStatistics[] } | { readonly kind: 'eval' };

export function declareConv(s: StateBuilder, name: string, inputs: number, outputs: number, kernel: Triple): Conv {
  const fanIn = inputs * product(kernel);
  return {
    name,
    weight: s.declare(`${name}.weight`, [outputs, inputs, ...kernel], 'parameter', { kind: 'kaiming', fanIn }),
    bias: s.declare(`${name}.bias`, [outputs], 'parameter', zeros),
  };
}

/** Fan-in as PyTorch has it for a transposed convolution: outputs × kernel. */
export function declareUpconv(s: StateBuilder, name: string, inputs: number, outputs: number, stride: Triple): Conv {
  const fanIn = outputs * product(stride);
  return {
    name,
    weight: s.declare(`${name}.weight`, [inputs, outputs, ...stride], 'parameter', { kind: 'kaiming', fanIn }),
    bias: s.declare(`${name}.bias`, [outputs], 'parameter', zeros),
  };
}

/** @param init 'kaiming' with zero bias, or 'pytorch': uniform in ±1/√inputs for both */
export function declareLinear(
  s: StateBuilder,
  name: string,
  inputs: number,
  outputs: number,
  init: 'kaiming' | 'pytorch',
): Conv {
  const bound = 1 / Math.sqrt(inputs);
  const uniform: Init = { kind: 'uniform', bound };
  return {
    name,
    weight: s.declare(
      `${name}.weight`,
      [outputs, inputs],
      'parameter',
      init === 'pytorch' ? uniform : { kind: 'kaiming', fanIn: inputs },
    ),
    bias: s.declare(`${name}.bias`, [outputs], 'parameter', init === 'pytorch' ? uniform : zeros),
  };
}

function declareNorm(s: StateBuilder, name: string, channels: number): BatchNorm {
  return {
    gamma: s.declare(`${name}.weight`, [channels], 'parameter', ones),
    beta: s.declare(`${name}.bias`, [channels], 'parameter', zeros),
    runningMean: s.declare(`${name}.running_mean`, [channels], 'statistic', zeros),
    runningVar: s.declare(`${name}.running_var`, [channels], 'statistic', ones),
    eps: NORM_EPS,
  };
}

/** Two (convolution → BatchNorm → leaky ReLU), as `conv1 norm1 conv2 norm2` under `name`. */
export function declareBlock(
  s: StateBuilder,
  name: string,
  inputs: number,
  outputs: number,
  kernel: Triple,
): NormedConv[] {
  return [1, 2].map((i) => ({
    conv: declareConv(s, `${name}.conv${i}`, i === 1 ? inputs : outputs, outputs, kernel),
    norm: declareNorm(s, `${name}.norm${i}`, outputs),
  }));
}

/** Two (convolution → InstanceNorm → leaky ReLU), as `conv1 norm1 conv2 norm2` under `name`; the first has the stride. */
export function declareUnits(
  s: StateBuilder,
  name: string,
  inputs: number,
  outputs: number,
  kernel: Triple,
  stride: Triple,
): Unit[] {
  return [1, 2].map((i) => ({
    conv: declareConv(s, `${name}.conv${i}`, i === 1 ? inputs : outputs, outputs, kernel),
    stride: i === 1 ? stride : [1, 1, 1],
    norm: {
      gamma: s.declare(`${name}.norm${i}.weight`, [outputs], 'parameter', ones),
      beta: s.declare(`${name}.norm${i}.bias`, [outputs], 'parameter', zeros),
      eps: NORM_EPS,
    },
  }));
}

/** Training and evaluation are the same: each sample has its own statistics. */
export function applyUnits(b: GraphBuilder, units: readonly Unit[], x: Tensor): Tensor {
  return units.reduce(
    (y, { conv, stride, norm }) =>
      b.within(conv.name, () => instanceNorm(b, conv3d(b, y, conv.weight, conv.bias, { stride }), norm, LEAKY_SLOPE)),
    x,
  );
}

export function applyConv(b: GraphBuilder, conv: Conv, x: Tensor): Tensor {
  return b.within(conv.name, () => conv3d(b, x, conv.weight, conv.bias));
}

/** Convolution → ReLU, no norm (the centre block). In evaluation the ReLU is the convolution's own epilogue. */
export function applyConvRelu(b: GraphBuilder, conv: Conv, x: Tensor, mode: PassMode): Tensor {
  return b.within(conv.name, () => {
    if (mode.kind === 'eval') return conv3d(b, x, conv.weight, conv.bias, { activation: { slope: 0 } });
    return activation(b, conv3d(b, x, conv.weight, conv.bias), 0);
  });
}

export function applyBlock(b: GraphBuilder, block: readonly NormedConv[], x: Tensor, mode: PassMode): Tensor {
  let y = x;
  for (const { conv, norm } of block) {
    y = b.within(conv.name, () => {
      return applyNorm(b, norm, conv3d(b, y, conv.weight, conv.bias), mode);
    });
  }
  return y;
}

/** BatchNorm and leaky ReLU. A frozen norm evaluates, whatever the mode: its running statistics hold still. */
function applyNorm(b: GraphBuilder, norm: BatchNorm, x: Tensor, mode: PassMode): Tensor {
  if (mode.kind === 'eval' || (norm.runningMean && b.frozen.has(norm.runningMean)))
    return normactEval(b, x, norm, LEAKY_SLOPE);
  const { y, pass } = normactTrain(b, x, norm, LEAKY_SLOPE);
  mode.statistics.push(pass);
  return y;
}

export function applyUpconv(b: GraphBuilder, up: Conv, x: Tensor): Tensor {
  return b.within(up.name, () => upconv3d(b, x, up.weight, up.bias));
}

export function applyLinear(b: GraphBuilder, fc: Conv, x: Tensor): Tensor {
  return b.within(fc.name, () => linear(b, x, fc.weight, fc.bias));
}
