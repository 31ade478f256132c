/** A training as `macl pretrain` and `macl finetune` run it, on a network of the benchmarks' sizes, that stands still after each step. */
import { setTimeout as delay } from 'node:timers/promises';
import type { Backend } from '../src/backend/types.js';
import type { Plan } from '../src/config/index.js';
import type { PreparedCase } from '../src/data/prepare/prepared-case.js';
import { samplerFor } from '../src/data/sampling/sampler.js';
import type { CompiledProgram } from '../src/graph/compile.js';
import { declareNetwork, type Network } from '../src/methods/network.js';
import { compileStep } from '../src/methods/step.js';
import { Executor } from '../src/model/executor.js';
import { initialState } from '../src/model/network-state.js';
import type { ResolvedConfig } from '../src/settings/types.js';
import { finetuneCases, pretrainCases } from '../src/train/cases.js';
import { feedOf } from '../src/train/feed.js';
import { trainLoop } from '../src/train/loop.js';
import type { RunFolder } from '../src/train/run-folder.js';
import { scheduleOf } from '../src/train/schedule.js';
import { finetunePlan, inspectCases, openData, prepareCases, pretrainPlan } from '../src/train/setup.js';
import { largestBox, planStore, VolumeStore } from '../src/train/volume-store.js';
import { Watch } from '../src/train/watch.js';
import type { Triple } from '../src/volume.js';
import { fillInputs, openWork, unet, type Computing } from './works.js';

/** Pre-training is planned one by its data: a patch must leave room to move. */
const PATCH = { pretrain: null, finetune: [48, 64, 48] as Triple };
const BATCH = 2;
/** Of the cases: what is read from a resident volume costs the same, however many there are. */
const SHARE = '0.1';
/** Both sides find the other's threads asleep. */
const REST_MS = 20;

export interface Prepared {
  readonly net: Network;
  readonly cases: readonly PreparedCase[];
}

/** The cases of a dataset, and the network that is trained on them. */
export async function prepared(
  task: 'pretrain' | 'finetune',
  data: string,
  cacheDir: string,
  steps: number,
  computing: Computing,
  backend: Backend,
): Promise<Prepared> {
  const options = { data, cacheDir };
  const dataset = await openData(options);
  const labelled = task === 'finetune';
  const chosen = labelled
    ? await finetuneCases(dataset, { labels: SHARE, val: 'none' }, 0, () => undefined)
    : await pretrainCases(dataset, { cases: SHARE }, 0, () => undefined);
  const want = { labels: labelled, nonFinite: 'refuse', sliceAxis: 'D' } as const;
  const { found, plan: measured } = await inspectCases(dataset, chosen.train, want, options);
  const patch = PATCH[task];
  const train = { batch: BATCH, steps, ...computing };
  const input = { model: unet(3, 16, 3, 1), train, ...(patch ? { data: { patch } } : {}) };
  const plan: Plan<ResolvedConfig> = labelled
    ? finetunePlan(measured, { task: 'finetune', ...input }, null)
    : pretrainPlan(measured, { task: 'pretrain', ...input });
  const { config, normalization } = plan;
  const model = { config, normalization, classes: found.classes, channelNames: dataset.channelNames };
  const { cases } = await prepareCases(dataset, chosen.train, model, labelled ? 'required' : 'none', options);
  return { net: declareNetwork(config, backend.info, 'training'), cases };
}

/** One step, in milliseconds. */
export interface LoopStep {
  /** From the end of the step before to its own: everything that a training does. */
  readonly wall: number;
  /** Of which its kernels take this, and `warp3d` this. */
  readonly kernels: number;
  readonly warp: number;
  /** What is drawn and read for the next step, while the kernels run. */
  readonly data: number;
  /** The step of the same network with fixed inputs, right after it. */
  readonly dummy: number;
}

export async function stepsOf(
  { net, cases }: Prepared,
  from: 'memory' | 'disk',
  backend: Backend,
  folder: RunFolder,
): Promise<LoopStep[]> {
  const { config, method, state } = net;
  const patch = config.data.patch as Triple;
  const boxVoxels = (spacingMm: Triple) => largestBox(patch, config.augment, spacingMm);
  const budgetBytes = from === 'memory' ? Infinity : 0;
  const plan = planStore(cases, { slots: config.train.batch * method.patches, boxVoxels, budgetBytes });
  const program = compileStep(net, backend);
  const dummy = await Dummy.open(net, backend);
  const executor = await Executor.open(backend, [program], initialState(state, 0, backend.info), plan.bytes);
  try {
    const store = await VolumeStore.open(executor.session, cases, plan);
    const sampler = samplerFor(config, { ...method, views: method.views(config) }, cases, {
      foreground: await foregroundOf(method.foreground ? cases : []),
    });
    const feed = feedOf(net, () => program, sampler, executor, store);
    const steps: LoopStep[] = [];
    let begun = performance.now();
    let data = 0;
    await trainLoop({
      executor,
      programAt: () => program,
      state,
      schedule: scheduleOf(config.optimizer, config.train.steps),
      batch: config.train.batch,
      startStep: 0,
      results: [...method.results(config), 'gradnorm'],
      checkpointEvery: Infinity,
      metadata: {},
      watch: new Watch(method.watchdogs?.(config, {}) ?? [], () => undefined, {}),
      scalars: method.scalars?.(config),
      folder,
      async prepareInput(step) {
        const start = performance.now();
        await feed(step);
        data = performance.now() - start;
      },
      validateEvery: 1,
      async validate() {
        const wall = performance.now() - begun;
        steps.push({ wall, ...kernelTimes(executor, program), data, dummy: await dummy.step() });
        await delay(REST_MS);
        begun = performance.now();
      },
    });
    return steps;
  } finally {
    await executor.close();
    await dummy.close();
  }
}

function kernelTimes(executor: Executor, program: CompiledProgram): { kernels: number; warp: number } {
  const { nodes } = program.graph;
  const times = [...executor.session.times()];
  const sum = (of: readonly number[]) => of.reduce((a, b) => a + b, 0);
  return { kernels: sum(times), warp: sum(times.filter((_, i) => nodes[i]!.kernel.startsWith('warp3d'))) };
}

/** The same network and batch in a session of its own, whose inputs stay as they are. */
class Dummy {
  private constructor(
    private readonly executor: Executor,
    private readonly program: CompiledProgram,
  ) {}

  static async open(net: Network, backend: Backend): Promise<Dummy> {
    const program = compileStep(net, backend, { source: 'given' });
    const executor = await openWork(backend, { program, state: net.state });
    fillInputs(executor, program);
    await executor.run(program);
    return new Dummy(executor, program);
  }

  async step(): Promise<number> {
    await delay(REST_MS);
    const start = performance.now();
    await this.executor.run(this.program);
    return performance.now() - start;
  }

  close(): Promise<void> {
    return this.executor.close();
  }
}

/** Any voxel of a case's foreground: what training draws a class for first. */
async function foregroundOf(cases: readonly PreparedCase[]) {
  const lists = await Promise.all(cases.map(async (c) => (await c.readForeground()).filter((list) => list.length > 0)));
  return (caseIndex: number, u: number, v: number): Triple | null => {
    const list = lists[caseIndex]?.[Math.floor(u * lists[caseIndex].length)];
    const voxel = list?.[Math.floor(v * list.length)];
    if (voxel === undefined) return null;
    const [, h, w] = cases[caseIndex]!.shape;
    return [Math.floor(voxel / (h * w)), Math.floor(voxel / w) % h, voxel % w];
  };
}
