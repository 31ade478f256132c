/** Pre-training: from a raw dataset to a network that `finetune` starts from. */
import type { PretrainConfig, PretrainConfigInput } from '../settings/types.js';
import { describePlan } from '../config/index.js';
import type { Dataset } from '../data/dataset.js';
import { samplerFor } from '../data/sampling/sampler.js';
import { NO_INTENSITY, type View } from '../data/sampling/view.js';
import { compile } from '../graph/compile.js';
import { builderFor } from '../methods/precision.js';
import { declareNetwork } from '../methods/network.js';
import { buildProbe } from '../methods/probe.js';
import { compileStep } from '../methods/step.js';
import type { Backend } from '../backend/types.js';
import { MaclError } from '../errors.js';
import { checkOptions, type OptionKinds } from '../options.js';
import type { PreparedDataset } from '../data/prepare/dataset.js';
import { checkSameCases, pretrainCases } from './cases.js';
import { configFor } from '../model/config-file.js';
import { DescriptorWriter } from './descriptors.js';
import { feedOf } from './feed.js';
import { VARIANT_TABLE } from '../ops/conv3d-variants.js';
import { initialState } from '../model/network-state.js';
import { representationOf } from './representation.js';
import type { RunRecord } from './run-record.js';
import { inspectCases, prepareCases, pretrainPlan, DATA_OPTIONS, type DataOptions } from './setup.js';
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
import { largestBox } from './volume-store.js';

export interface PretrainOptions extends DataOptions, RunOptions {
  /** Or a run's own record, its parsed `config.json`. */
  readonly config?: Omit<PretrainConfigInput, 'task'> | undefined;
  /** Leaves out what this fold of the labelled cases holds out: k/n, or FILE.json#K of nnU-Net's splits. */
  readonly fold?: string | undefined;
  /** `none`: pre-training has no validation. Here so that scripts may give every training the same options. */
  readonly val?: string | undefined;
}

const OPTIONS: OptionKinds<PretrainOptions> = {
  ...DATA_OPTIONS,
  ...RUN_OPTIONS,
  config: 'object',
  fold: 'text',
  val: 'text',
};

export async function pretrain(options: PretrainOptions): Promise<RunSummary> {
  checkOptions('pretrain', options, OPTIONS, ['data', 'out'], configPaths('pretrain'));
  const asked = configFor<PretrainConfigInput>('pretrain', options.config);
  if (options.val !== undefined && options.val.trim() !== 'none') {
    const words = `--val ${options.val}: pre-training has no validation, its last weights are the result; expected none`;
    throw new MaclError('config', words, { field: '--val', expected: 'none', found: options.val });
  }
  return runTask<PretrainConfigInput, PretrainConfig>(options, asked, {
    begin: (input, dataset, backend) => begin(options, input, dataset, backend),
    async prepare(record, dataset, backend) {
      if (options.resume && (options.cases !== undefined || options.fold !== undefined)) {
        const given = await pretrainCases(dataset, options, record.config.train.seed, () => undefined);
        checkSameCases(
          record.cases,
          given,
          options.fold === undefined ? '--cases' : '--cases, --fold',
          options.skipBad ?? false,
        );
      }
      const prepared = await prepareCases(dataset, record.cases.train, record, 'none', options);
      return assemble(record, prepared, backend, options);
    },
  });
}

async function begin(
  options: PretrainOptions,
  given: PretrainConfigInput,
  dataset: Dataset,
  backend: Backend,
): Promise<RunRecord<PretrainConfig>> {
  const say = (message: string) => options.onEvent?.({ kind: 'note', message });
  const cases = await pretrainCases(dataset, options, given.train?.seed ?? 0, say);
  const input = await withSliceAxis(given, dataset, cases.train, say, options.signal);
  const want = {
    // CT's numbers are those of the foreground, as `prepare` and fine-tuning take them: a bad label would change them and
    // is a bad file; a missing one leaves its case without. Nothing else needs labels, and they are not opened then.
    labels: kindsOf(dataset, input).includes('ct') ? 'present' : false,
    nonFinite: input.data?.nonFinite ?? 'refuse',
    sliceAxis: input.data?.sliceAxis ?? 'D',
  } as const;
  const { found, plan: measured } = await inspectCases(dataset, cases.train, want, options);
  const bad = new Set(found.bad.map((b) => b.id));
  const plan = pretrainPlan(measured, input);
  options.onEvent?.({ kind: 'plan', lines: describePlan(plan) });
  for (const message of plan.warnings) options.onEvent?.({ kind: 'warning', message });
  return {
    format: 1,
    config: plan.config,
    normalization: plan.normalization,
    classes: [],
    channelNames: dataset.channelNames,
    dataset: dataset.root,
    cases: { train: cases.train.filter((id) => !bad.has(id)), validation: [] },
    channels: 'same',
    device: { backend: backend.info.name, isa: backend.info.isa },
    variantTable: VARIANT_TABLE,
    init: null,
  };
}

/** How the channels will be normalised. */
function kindsOf(dataset: Dataset, input: PretrainConfigInput): readonly string[] {
  const { normalize = 'auto' } = input.data ?? {};
  return normalize === 'auto' ? dataset.kinds : [normalize].flat();
}

function assemble(
  record: RunRecord<PretrainConfig>,
  prepared: PreparedDataset,
  backend: Backend,
  options: PretrainOptions,
): Training<PretrainConfig> {
  const { config } = record;
  const { patch } = config.data;
  const { batch, seed } = config.train;
  const { augment } = config;
  const net = declareNetwork(config, backend.info, 'training');
  const program = compileStep(net, backend);
  const look = buildProbe(net, batch, patch, augment.interpolation, builderFor(config.train.precision, backend.info));
  const probe = compile(look.graph, backend, net.state, 0, { arithmetic: config.train.arithmetic });
  checkMemory({ program, others: [probe] }, backend);
  const { cases } = prepared;
  const views = net.method.views(config);
  const sampler = samplerFor(config, { ...net.method, views }, cases);
  // The features are looked at on a view without spatial change: the method's own, or the patch as it lies.
  const own = views.findLast((view) => view.kind === 'image' && !view.spatial);
  const plain: View = { name: 'x', kind: 'image', patch: 0, spatial: false, intensity: NO_INTENSITY };
  const looked = own ? sampler : samplerFor(config, { ...net.method, views: [plain] }, cases);
  return {
    record,
    net,
    begin: () => initialState(net.state, seed, backend.info),
    program,
    others: [probe],
    cases,
    heldCases: [],
    boxVoxels: (spacingMm) => largestBox(patch, augment, spacingMm),
    checkpointEvery:
      configFor<PretrainConfigInput>('pretrain', options.config).train?.checkpointEvery ?? config.train.checkpointEvery,
    represent(executor, store) {
      const writer = new DescriptorWriter(executor, probe, store, config.model.inChannels);
      return async () => {
        // Always the first step's patches, so that the figures of one run differ by the weights alone.
        for (const [n, { patches, warps }] of looked.draw(0).slice(0, batch).entries()) {
          const { warp } = warps.get((own ?? plain).name)!;
          await writer.sample(n, n, patches[0]!.caseIndex, [['x', warp]], patch);
        }
        writer.flush();
        await executor.run(probe, options.signal ? { signal: options.signal } : {});
        return representationOf(
          look.levels.map((level) => ({
            ...level,
            products: executor.get(probe, `${level.name}.products`),
            sums: executor.get(probe, `${level.name}.sums`),
          })),
        );
      };
    },
    feed: (executor, store, programAt) => feedOf(net, programAt, sampler, executor, store),
  };
}
