/** Fine-tuning: from labelled cases, and maybe a pre-trained network, to a model that segments. */
import { resolve } from 'node:path';
import type { Backend } from '../backend/types.js';
import { describePlan, type Plan } from '../config/index.js';
import type { ChannelNormalization, FinetuneConfig, FinetuneConfigInput } from '../settings/types.js';
import type { Dataset } from '../data/dataset.js';
import { checkSomethingCounts, labelFindings, twinsOf } from '../data/findings.js';
import type { PreparedDataset } from '../data/prepare/dataset.js';
import type { PreparedCase } from '../data/prepare/prepared-case.js';
import { samplerFor } from '../data/sampling/sampler.js';
import type { Triple } from '../volume.js';
import { MaclError } from '../errors.js';
import { checkOptions, type OptionKinds } from '../options.js';
import { compile } from '../graph/compile.js';
import { declareNetwork, declareSegmentation } from '../methods/network.js';
import { builderFor } from '../methods/precision.js';
import { buildInference } from '../methods/segmentation.js';
import { compileStep } from '../methods/step.js';
import { labelArrayType } from '../segment/label-values.js';
import { checkSameCases, finetuneCases, withoutTwins } from './cases.js';
import { configFor } from '../model/config-file.js';
import { feedOf } from './feed.js';
import type { LoadedModel } from '../model/description.js';
import { loadModel } from '../model/model-file.js';
import { VARIANT_TABLE } from '../ops/conv3d-variants.js';
import { initialState } from '../model/network-state.js';
import type { RunRecord } from './run-record.js';
import { finetunePlan, inspectCases, prepareCases, DATA_OPTIONS, type DataOptions } from './setup.js';
import { withSliceAxis } from './slice-axis.js';
import {
  checkMemory,
  configPaths,
  RUN_OPTIONS,
  runTask,
  type RunOptions,
  type RunSummary,
  type Training,
} from './trainer.js';
import { describeTransfer, planTransfer, transferWeights } from '../model/transfer.js';
import { openValidation } from './validation.js';
import { largestBox } from './volume-store.js';

export interface FinetuneOptions extends DataOptions, RunOptions {
  /** Or a run's own record, its parsed `config.json`. */
  readonly config?: Omit<FinetuneConfigInput, 'task'> | undefined;
  /** A pre-trained run's folder or model file; from scratch where absent. */
  readonly init?: string | undefined;
  /** Labelled cases to train on: FILE.json#KEY, a text file, a comma list, or a fraction. Default: all. */
  readonly labels?: string | undefined;
  /** Validation cases, a fraction of the labelled ones, or `none`. */
  readonly val?: string | undefined;
  /** Validates on a fold of the labelled cases: k/n, or FILE.json#K of nnU-Net's splits. */
  readonly fold?: string | undefined;
}

const OPTIONS: OptionKinds<FinetuneOptions> = {
  ...DATA_OPTIONS,
  ...RUN_OPTIONS,
  config: 'object',
  init: 'text',
  labels: 'text',
  val: 'text',
  fold: 'text',
};

export async function finetune(options: FinetuneOptions): Promise<RunSummary> {
  checkOptions('finetune', options, OPTIONS, ['data', 'out'], configPaths('finetune'));
  const asked = configFor<FinetuneConfigInput>('finetune', options.config);
  return runTask<FinetuneConfigInput, FinetuneConfig>(options, asked, {
    async begin(input, dataset, backend) {
      const init =
        options.init === undefined
          ? null
          : await loadModel(options.init, (message) => options.onEvent?.({ kind: 'note', message }));
      return begin(options, input, dataset, backend, init);
    },
    async prepare(record, dataset, backend) {
      const { train, validation } = record.cases;
      const flags = [options.cases, options.labels, options.val, options.fold];
      if (options.resume && flags.some((flag) => flag !== undefined)) {
        const given = await finetuneCases(dataset, options, record.config.train.seed, () => undefined);
        const others = (['cases', 'fold'] as const).filter((name) => options[name] !== undefined);
        const named = [...others.map((name) => `--${name}`), '--labels', '--val'].join(', ');
        checkSameCases(record.cases, given, named, options.skipBad ?? false);
      }
      if (options.resume && options.init !== undefined && resolve(options.init) !== record.init) {
        const details = { field: 'init', expected: record.init, found: resolve(options.init) };
        const began = record.init === null ? 'from scratch' : `from ${record.init}`;
        throw new MaclError('config', `--resume: --init: the run began ${began}, found ${details.found}`, details);
      }
      const prepare = (ids: readonly string[]) => prepareCases(dataset, ids, record, 'required', options);
      const training = await prepare(train);
      const held = validation.length > 0 ? await prepare(validation) : null;
      return assemble(record, training, held, backend, options);
    },
  });
}

async function begin(
  options: FinetuneOptions,
  given: FinetuneConfigInput,
  dataset: Dataset,
  backend: Backend,
  init: LoadedModel | null,
): Promise<RunRecord<FinetuneConfig>> {
  if (given.optimizer?.schedule === 'sawtooth' && !init) {
    const words = 'optimizer.schedule: sawtooth trains first what --init did not load; expected --init, found nothing';
    throw new MaclError('config', words, { field: 'optimizer.schedule', expected: '--init', found: 'sawtooth' });
  }
  const say = (message: string) => options.onEvent?.({ kind: 'note', message });
  const warn = (message: string) => options.onEvent?.({ kind: 'warning', message });
  const chosen = await finetuneCases(dataset, options, given.train?.seed ?? 0, say);
  // A pre-trained network brings its own.
  const input = init ? given : await withSliceAxis(given, dataset, chosen.train, say, options.signal);
  const want = {
    labels: true,
    nonFinite: input.data?.nonFinite ?? 'refuse',
    sliceAxis: input.data?.sliceAxis ?? init?.config.data.sliceAxis ?? 'D',
  } as const;
  const ids = [...chosen.train, ...chosen.validation].sort();
  const { found, plan: measured } = await inspectCases(dataset, ids, want, options);
  const bad = new Set(found.bad.map((b) => b.id));
  const split = withoutTwins(chosen, twinsOf(found), warn);
  checkSomethingCounts(found, dataset, split.train);
  for (const message of labelFindings(found, split.train)) warn(message);
  // Before a step is computed: what no type holds could not be written by predict.
  labelArrayType(
    found.classes.map(({ value }) => value),
    { file: dataset.root, field: 'labels' },
  );
  const plan = finetunePlan(measured, input, init);
  const { classes } = plan.config.model;
  if (classes !== found.classes.length)
    throw new MaclError(
      'config',
      `model.classes: expected ${found.classes.length}, as many as the dataset has with the background, found ${classes}`,
      { field: 'model.classes', expected: found.classes.length, found: classes },
    );
  const loaded = init ? planTransfer(declareNetwork(plan.config, backend.info, 'inference').state, init).taken : [];
  options.onEvent?.({ kind: 'plan', lines: describePlan(plan, loaded) });
  for (const message of plan.warnings) options.onEvent?.({ kind: 'warning', message });
  return {
    format: 1,
    config: plan.config,
    normalization: normalizationOf(plan, init),
    classes: found.classes,
    channelNames: dataset.channelNames,
    dataset: dataset.root,
    cases: {
      ...split,
      train: split.train.filter((id) => !bad.has(id)),
      validation: split.validation.filter((id) => !bad.has(id)),
    },
    channels: plan.channels,
    device: { backend: backend.info.name, isa: backend.info.isa },
    variantTable: VARIANT_TABLE,
    // A resume may run from another folder.
    init: options.init === undefined ? null : resolve(options.init),
    ...(init ? { loaded } : {}),
  };
}

/** One rule a channel of the network. CT's numbers are those that it was pre-trained with, unless another kind is wanted. */
function normalizationOf(plan: Plan<FinetuneConfig>, init: LoadedModel | null): readonly ChannelNormalization[] {
  return Array.from({ length: plan.config.model.inChannels }, (_, c) => {
    const own = (plan.normalization[c] ?? plan.normalization[0]) as ChannelNormalization;
    const before = init?.normalization[c] ?? init?.normalization[0];
    return before?.kind === own.kind ? before : own;
  });
}

async function assemble(
  record: RunRecord<FinetuneConfig>,
  prepared: PreparedDataset,
  held: PreparedDataset | null,
  backend: Backend,
  options: FinetuneOptions,
): Promise<Training<FinetuneConfig>> {
  const { config } = record;
  const { patch } = config.data;
  const { seed } = config.train;
  const { augment } = config;
  const net = declareSegmentation(config, backend.info, 'training', record.loaded);
  const program = compileStep(net, backend);
  const first = config.optimizer.schedule === 'sawtooth' ? compileStep(net, backend, { part: 'first' }) : undefined;
  // Of full precision, as `predict` runs it, whatever the training's: its Dice is that of the model.
  const inference = held
    ? compile(buildInference(net, 1, patch, builderFor('fp32', backend.info)), backend, net.state, 0, {
        arithmetic: config.train.arithmetic,
      })
    : null;
  const others = inference ? [inference] : [];
  checkMemory({ program, first, others }, backend);
  const { cases } = prepared;
  const wanted = { ...net.method, views: net.method.views(config) };
  const sampler = samplerFor(config, wanted, cases, { foreground: await foregroundOf(cases) });
  return {
    record,
    net,
    async begin() {
      const state = initialState(net.state, seed, backend.info);
      if (record.init !== null) {
        const init = await loadModel(record.init);
        const transfer = transferWeights(net.state, state, init);
        for (const message of describeTransfer(transfer, init.file)) options.onEvent?.({ kind: 'note', message });
      }
      return state;
    },
    program,
    first,
    others,
    cases,
    heldCases: held?.cases ?? [],
    boxVoxels: (spacingMm) => largestBox(patch, augment, spacingMm),
    checkpointEvery:
      configFor<FinetuneConfigInput>('finetune', options.config).train?.checkpointEvery ?? config.train.checkpointEvery,
    feed: (executor, store, programAt) => feedOf(net, programAt, sampler, executor, store),
    validation: async (executor, folder, resumed) =>
      held && inference
        ? openValidation({
            executor,
            inference,
            record,
            state: net.state,
            cases: held.cases,
            folder,
            resumed,
            onEvent: options.onEvent,
            signal: options.signal,
          })
        : null,
  };
}

/** A voxel of a case's foreground from two uniform numbers: a class that is there, then one of its voxels. */
async function foregroundOf(cases: readonly PreparedCase[]) {
  const lists = await Promise.all(cases.map(async (c) => (await c.readForeground()).filter((list) => list.length > 0)));
  return (caseIndex: number, u: number, v: number): Triple | null => {
    const classes = lists[caseIndex] ?? [];
    const list = classes[Math.floor(u * classes.length)];
    const [, h, w] = (cases[caseIndex] as PreparedCase).shape;
    const voxel = list?.[Math.floor(v * list.length)];
    return voxel === undefined ? null : [Math.floor(voxel / (h * w)), Math.floor(voxel / w) % h, voxel % w];
  };
}
