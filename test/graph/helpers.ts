/** Small networks and a stand-in for a backend, for tests of the compiler that need no device. */
import type { Fusion } from '../../src/backend/types.js';
import { FUSIONS } from '../../src/backend/types.js';
import { GraphBuilder } from '../../src/graph/builder.js';
import type { Describe } from '../../src/graph/compile.js';
import type { Graph } from '../../src/graph/types.js';
import type { ContrastiveLoss } from '../../src/losses/contrastive.js';
import { buildPretrainStep } from '../../src/methods/macl.js';
import {
  declarePretrainNetwork,
  declareSegmentNetwork,
  type ModelConfig,
  type OptimizerConfig,
} from '../../src/methods/network.js';
import { buildProbe } from '../../src/methods/probe.js';
import { buildFinetuneStep, buildInference } from '../../src/methods/segment.js';
import type { StateTable } from '../../src/nn/state.js';

export const ALL_FUSIONS: ReadonlySet<Fusion> = new Set(FUSIONS);
export const NO_FUSIONS: ReadonlySet<Fusion> = new Set();

/** Says 4096 bytes for every opaque tensor. */
export const stubBackend: Describe = {
  info: {
    name: 'cpu',
    real: 'f32',
    isa: 'stub',
    threads: 1,
    fusions: ALL_FUSIONS,
    kernels: [],
    maxBytes: 2 ** 40,
    hostFreeBytes: 2 ** 40,
  },
  opaqueBytes: () => 4096,
};

export const model3d: ModelConfig = {
  dims: 3,
  inChannels: 1,
  filters: 4,
  levels: 2,
  decoderBlocks: 1,
  strides: [
    [2, 2, 2],
    [1, 2, 2],
  ],
  kernels: [
    [3, 3, 3],
    [3, 3, 3],
    [1, 3, 3],
  ],
  classes: 3,
};

export const sgd: OptimizerConfig = { name: 'sgd', momentum: 0.9, weightDecay: 1e-5, clip: 0 };
export const adam: OptimizerConfig = { ...sgd, name: 'adam', weightDecay: 0 };
export const contrastive: ContrastiveLoss = {
  temperature: 0.1,
  threshold: 0.1,
  weights: { global: 1, dense: 0.5, er: 1 },
  temperatureFactor: 'none',
  er: 'absolute',
};

export interface Built {
  readonly name: string;
  readonly graph: Graph;
  readonly state: StateTable;
}

/** Fresh graphs (passes set views on tensors, so each test builds its own). */
export function buildAll(): Built[] {
  const patch = [8, 8, 16] as const;
  const pre = declarePretrainNetwork(model3d, sgd, 'f32');
  const fine = declareSegmentNetwork(model3d, adam, 'f32');
  const volumes = { kind: 'volumes', interpolation: 'linear' } as const;
  const step = { batch: 2, patch, positionAxes: 3, loss: contrastive, optimizer: sgd };
  return [
    {
      name: 'pretrain from volumes',
      state: pre.state,
      graph: buildPretrainStep(pre, { ...step, views: { ...volumes, identity: true } }, new GraphBuilder('f32')),
    },
    {
      name: 'pretrain from given views',
      state: pre.state,
      graph: buildPretrainStep(pre, { ...step, views: { kind: 'given' } }, new GraphBuilder('f32')),
    },
    {
      name: 'finetune',
      state: fine.state,
      graph: buildFinetuneStep(
        fine,
        { batch: 2, patch, loss: { name: 'ce+dice', dicePer: 'batch' }, optimizer: adam, samples: volumes },
        new GraphBuilder('f32'),
      ),
    },
    { name: 'probe', state: pre.state, graph: buildProbe(pre, 2, patch, 'linear', new GraphBuilder('f32')).graph },
    { name: 'inference', state: fine.state, graph: buildInference(fine, 1, patch, new GraphBuilder('f32')) },
  ];
}
