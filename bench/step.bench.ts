/**
 * npm run bench -- step [--device cpu|wasm|cuda] [--isa NAME] [--threads N] [--runs N] [--save]
 *
 * Whole training steps and inference: median time, samples/s, arithmetic rate, share of the fp32 multiply-add ceiling
 * measured in the same run, and memory (the session's segments). Random data; warm-up apart.
 */
import type { Backend } from '../src/backend/types.js';
import { GraphBuilder } from '../src/graph/builder.js';
import { compile, type CompiledProgram } from '../src/graph/compile.js';
import { buildPretrainStep } from '../src/methods/macl.js';
import {
  declarePretrainNetwork,
  declareSegmentNetwork,
  type ModelConfig,
  type OptimizerConfig,
} from '../src/methods/network.js';
import { buildFinetuneStep, buildInference } from '../src/methods/segment.js';
import type { StateTable } from '../src/nn/state.js';
import { Executor } from '../src/model/executor.js';
import { initialState } from '../src/model/network-state.js';
import { flags, Report, timeOf } from './report.js';

type Triple = readonly [number, number, number];

interface Work {
  readonly name: string;
  readonly batch: number;
  build(backend: Backend): { program: CompiledProgram; state: StateTable };
}

const all = <T>(n: number, value: T): T[] => Array.from({ length: n }, () => value);
const sgd: OptimizerConfig = { name: 'sgd', momentum: 0.9, weightDecay: 1e-5, clip: 0 };
const adam: OptimizerConfig = { ...sgd, name: 'adam', weightDecay: 0 };
const unet = (dims: 2 | 3, filters: number, levels: number, decoderBlocks: number): ModelConfig => {
  const [stride, kernel]: [Triple, Triple] =
    dims === 3
      ? [
          [2, 2, 2],
          [3, 3, 3],
        ]
      : [
          [1, 2, 2],
          [1, 3, 3],
        ];
  return {
    dims,
    inChannels: 1,
    filters,
    levels,
    decoderBlocks,
    strides: all(levels, stride),
    kernels: all(levels + 1, kernel),
    classes: 3,
  };
};

function works(label: string, model: ModelConfig, batch: number, patch: Triple): Work[] {
  const loss = {
    temperature: 0.1,
    threshold: 0.1,
    weights: { global: 1, dense: 0.5, er: 1 },
    temperatureFactor: 'none',
    er: 'absolute',
  } as const;
  const finish = (b: Backend, graph: Parameters<typeof compile>[0], state: StateTable) => ({
    program: compile(graph, b, state, 0),
    state,
  });
  return [
    {
      name: `${label} pretrain`,
      batch,
      build(b) {
        const net = declarePretrainNetwork(model, sgd, b.info.real);
        const step = { batch, patch, positionAxes: 3, loss, optimizer: sgd, views: { kind: 'given' } } as const;
        return finish(b, buildPretrainStep(net, step, new GraphBuilder(b.info.real)), net.state);
      },
    },
    {
      name: `${label} finetune`,
      batch,
      build(b) {
        const net = declareSegmentNetwork(model, adam, b.info.real);
        const step = {
          batch,
          patch,
          loss: { name: 'ce+dice', dicePer: 'batch' },
          optimizer: adam,
          samples: { kind: 'given' },
        } as const;
        return finish(b, buildFinetuneStep(net, step, new GraphBuilder(b.info.real)), net.state);
      },
    },
    {
      name: `${label} inference`,
      batch,
      build(b) {
        const net = declareSegmentNetwork(model, null, b.info.real);
        return finish(b, buildInference(net, batch, patch, new GraphBuilder(b.info.real)), net.state);
      },
    },
  ];
}

const options = flags();
/** What a processor works on in tenths of a second, and on a GPU what people train there. */
const WORKS = [
  ...works('3-D f16 2×48×64×48', unet(3, 16, 3, 1), 2, [48, 64, 48]),
  ...works('2-D f32 4×256²', unet(2, 32, 4, 2), 4, [1, 256, 256]),
  ...(/^cuda(:|$)/.test(options.device)
    ? [
        ...works('3-D f32 4×96³', unet(3, 32, 4, 1), 4, [96, 96, 96]),
        ...works('3-D f32 2×128³', unet(3, 32, 4, 2), 2, [128, 128, 128]),
        ...works('2-D f32 16×512²', unet(2, 32, 4, 2), 16, [1, 512, 512]),
      ]
    : []),
];

const report = await Report.open('step', options);
const { backend } = report;

const POOL = Float32Array.from({ length: 2 ** 20 }, () => Math.random() * 2 - 1);

/** Random numbers in −1…1, the same million again and again: a large batch would take longer to draw than to train on. */
function noise(count: number): Float32Array {
  const out = new Float32Array(count);
  for (let at = 0; at < count; at += POOL.length) out.set(POOL.subarray(0, Math.min(POOL.length, count - at)), at);
  return out;
}

/** Random input of every kind that these programs have. */
function fillInputs(executor: Executor, program: CompiledProgram): void {
  for (const [name, slot] of program.io) {
    const count = slot.shape.reduce((p, s) => p * s, 1);
    if (['i1', 'i2', 'v1', 'v2', 'x'].includes(name)) executor.set(program, name, noise(count));
    else if (name === 'y')
      executor.set(
        program,
        name,
        Int32Array.from({ length: count }, (_, i) => i % 3),
      );
    else if (name === 'pos')
      executor.set(
        program,
        name,
        Float64Array.from({ length: count }, () => Math.random()),
      );
    else if (name === 'lr') executor.set(program, name, [1e-4]);
  }
}

const rows = [];
for (const work of WORKS.filter((w) => w.name.includes(options.filter))) {
  report.measureCeiling();
  const { program, state } = work.build(backend);
  const executor = await Executor.open(backend, [program], initialState(state, 1, backend.info));
  fillInputs(executor, program);
  const timing = await timeOf(work.name, Number(options.runs), () => executor.run(program));
  const loss = program.io.has('loss') ? executor.scalar(program, 'loss') : null;
  if (loss !== null && !Number.isFinite(loss)) throw new Error(`${work.name}: the loss is ${loss}`);
  await executor.close();
  const gflop = program.costs().reduce((sum, k) => sum + k.flops, 0) / 1e9;
  const { sizes, scratchBytesWithoutReuse } = program;
  const row = {
    work: work.name,
    ...timing,
    samplesPerSecond: (1000 * work.batch) / timing.medianMs,
    gflops: (1000 * gflop) / timing.medianMs,
    sessionBytes: sizes.state + sizes.scratch + sizes.io,
    scratchBytesWithoutReuse,
  };
  rows.push(row);
  // As each is done: a run that is ended early has shown what it has.
  process.stdout.write(`${JSON.stringify(row)}\n`);
}
await backend.close();

report.print(
  rows,
  rows.map(
    (r) =>
      `${r.work.padEnd(30)} ${r.medianMs.toFixed(0).padStart(6)} ms (${r.bestMs.toFixed(0)}–${r.worstMs.toFixed(0)}) ` +
      `${r.samplesPerSecond.toFixed(2).padStart(7)} samples/s ${r.gflops.toFixed(0).padStart(5)} GFLOP/s${report.share(r.gflops)} ` +
      `${(r.sessionBytes / 2 ** 20).toFixed(0)} MiB`,
  ),
);
