/** Small networks and a stand-in for a backend, for tests of the compiler that need no device. */
import type { Fusion } from '../../src/backend/types.js';
import { FUSIONS } from '../../src/backend/types.js';
import { GraphBuilder } from '../../src/graph/builder.js';
import type { Describe } from '../../src/graph/compile.js';
import type { Graph } from '../../src/graph/types.js';
import { resolveConfig } from '../../src/config/index.js';
import { declareNetwork, declareSegmentation } from '../../src/methods/network.js';
import { buildProbe } from '../../src/methods/probe.js';
import { buildInference } from '../../src/methods/segmentation.js';
import { buildStep, sizesOf } from '../../src/methods/step.js';
import type { FinetuneConfig, ModelConfig } from '../../src/settings/types.js';
import type { StateTable } from '../../src/nn/state.js';

export const ALL_FUSIONS: ReadonlySet<Fusion> = new Set(FUSIONS);
export const NO_FUSIONS: ReadonlySet<Fusion> = new Set();

/** Says 4096 bytes for every opaque tensor. */
export const stubBackend: Describe = {
  info: {
    name: 'cpu',
    real: 'f32',
    precisions: ['fp32'],
    isa: 'stub',
    threads: 1,
    alignment: 64,
    fusions: ALL_FUSIONS,
    kernels: [],
    maxBytes: 2 ** 40,
    hostFreeBytes: 2 ** 40,
  },
  opaqueBytes: () => 4096,
};

export const model3d: Omit<ModelConfig, 'backbone' | 'classes' | 'recompute'> = {
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
};

const common = { model: model3d, data: { patch: [8, 8, 16] }, train: { batch: 2 } };
export const pretrainConfig = resolveConfig({ task: 'pretrain', ...common });
export const finetuneConfig = resolveConfig({
  task: 'finetune',
  ...common,
  model: { ...model3d, classes: 3 },
}) as FinetuneConfig;

export interface Built {
  readonly name: string;
  readonly graph: Graph;
  readonly state: StateTable;
}

/** Fresh graphs (passes set views on tensors, so each test builds its own). */
export function buildAll(): Built[] {
  const patch = [8, 8, 16] as const;
  const pre = declareNetwork(pretrainConfig, stubBackend.info, 'training');
  const fine = declareSegmentation(finetuneConfig, stubBackend.info, 'training');
  const step = (net: typeof pre, source: 'volumes' | 'given') =>
    buildStep(net, sizesOf(net), source, new GraphBuilder('f32'));
  return [
    { name: 'pretrain from volumes', state: pre.state, graph: step(pre, 'volumes') },
    { name: 'pretrain from given views', state: pre.state, graph: step(pre, 'given') },
    { name: 'finetune', state: fine.state, graph: step(fine, 'volumes') },
    { name: 'probe', state: pre.state, graph: buildProbe(pre, 2, patch, 'linear', new GraphBuilder('f32')).graph },
    { name: 'inference', state: fine.state, graph: buildInference(fine, 1, patch, new GraphBuilder('f32')) },
  ];
}
