/**
 * npm run bench -- step [--device cpu|wasm|cuda] [--isa NAME] [--threads N] [--runs N] [--save]
 *
 * Whole training steps and inference: median time, samples/s, arithmetic rate, share of the fp32 multiply-add ceiling
 * measured in the same run, and memory (the session's segments). Random data; warm-up apart.
 */
import type { Backend } from '../src/backend/types.js';
import { resolveConfig } from '../src/config/index.js';
import { GraphBuilder } from '../src/graph/builder.js';
import { compile, type CompiledProgram } from '../src/graph/compile.js';
import { declareNetwork, declareSegmentation } from '../src/methods/network.js';
import { buildInference } from '../src/methods/segmentation.js';
import { compileStep } from '../src/methods/step.js';
import type { StateTable } from '../src/nn/state.js';
import type { FinetuneConfig, ModelConfig } from '../src/settings/types.js';
import type { Triple } from '../src/volume.js';
import { Executor } from '../src/model/executor.js';
import { initialState } from '../src/model/network-state.js';
import { flags, Report, timeOf } from './report.js';

interface Work {
  readonly name: string;
  readonly batch: number;
  build(backend: Backend): { program: CompiledProgram; state: StateTable };
}

type Model = Partial<ModelConfig> & Pick<ModelConfig, 'dims'>;

function works(label: string, model: Model, batch: number, patch: Triple): Work[] {
  const common = { model: { ...model, inChannels: 1 }, data: { patch, position: 'centre' } };
  const pretrain = resolveConfig({ task: 'pretrain', ...common, train: { batch } });
  const given = { ...common, model: { ...common.model, classes: 3 }, train: { batch } };
  const finetune = resolveConfig({ task: 'finetune', ...given }) as FinetuneConfig;
  const training = (name: string, config: typeof pretrain): Work => ({
    name: `${label} ${name}`,
    batch,
    build(b) {
      const net = declareNetwork(config, b.info, 'training');
      return { program: compileStep(net, b, { source: 'given' }), state: net.state };
    },
  });
  return [
    training('pretrain', pretrain),
    training('finetune', finetune),
    {
      name: `${label} inference`,
      batch,
      build(b) {
        const net = declareSegmentation(finetune, b.info, 'inference');
        const graph = buildInference(net, batch, patch, new GraphBuilder(b.info.real));
        return { program: compile(graph, b, net.state, 0), state: net.state };
      },
    },
  ];
}

const unet = (dims: 2 | 3, filters: number, levels: number, decoderBlocks: number): Model => {
  return { dims, filters, levels, decoderBlocks };
};

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
