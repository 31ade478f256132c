/**
 * The planner: from a dataset's fingerprint and whatever a user has given, a configuration with a value everywhere. What
 * is given is kept and the rest is planned around it; only what contradicts itself is an error. It looks at no files and
 * no machine, so that a plan is the same everywhere.
 */
import { backboneOf } from '../backbones/index.js';
import { MaclError, memoryError } from '../errors.js';
import { methodNamed, methodOf, type Method } from '../methods/index.js';
import { lambdaOf } from '../settings/lambda.js';
import { bottleneckVoxels, checkModel, patchUnit } from './check.js';
import { estimateBytes, estimateStepSeconds } from './cost.js';
import { mapTriple, shapeAt, targetSpacingMm, type ChannelKind, type Fingerprint } from '../settings/fingerprint.js';
import { mergeConfig } from './merge.js';
import { choosePretrainPatch, MOST_POSITIVE, MOST_VOXELS, roundToUnit, wantedSize, type PatchChoice } from './patch.js';
import { positiveShare, type SharePlan } from './positives.js';
import { DEFAULT_BACKBONE, defaultPosition, modelOf, readConfig, resolveConfig } from './resolve.js';
import { planTopology } from './topology.js';
import { mergeInit, type InitModel } from './plan-init.js';
import type {
  ChannelNormalization,
  ConfigInput,
  FinetuneConfig,
  FinetuneConfigInput,
  ModelConfig,
  NormalizeKind,
  Planned,
  PretrainConfig,
  PretrainConfigInput,
  ResolvedConfig,
  Triple,
} from '../settings/types.js';

export interface PlanOptions {
  /** The file or flag that the configuration came from, for errors. */
  readonly source?: string;
  /** Fine-tuning only: the configuration of the pre-trained run. */
  readonly init?: InitModel;
  /** Lowers the batch until the estimate is below this. Makes a plan depend on the machine: for who asks for it. */
  readonly limitBytes?: number;
  /** Bytes that a configuration needs; an estimate by arithmetic where it is not given. */
  readonly bytesOf?: (model: ModelConfig, patch: Triple, batch: number) => number;
}

export interface Plan<C extends ResolvedConfig = ResolvedConfig> {
  readonly config: Planned<C>;
  /** One rule a channel of the data. */
  readonly normalization: readonly ChannelNormalization[];
  /** λ of each axis. */
  readonly lambda: Triple;
  /** Chance that two samples are positives; null where the method has none. */
  readonly positiveShare: number | null;
  /** How one channel of data meets a network that was pre-trained on many. */
  readonly channels: 'same' | 'sum' | 'repeat';
  readonly cases: number;
  /** Smallest and largest case, each axis by itself, in voxels at the plan's spacing. */
  readonly smallestShape: Triple;
  readonly largestShape: Triple;
  readonly estimatedBytes: number;
  readonly warnings: readonly string[];
}

export function planPretrain(
  fingerprint: Fingerprint,
  input: PretrainConfigInput,
  options: PlanOptions = {},
): Plan<PretrainConfig> {
  const given = readConfig(input, options.source) as PretrainConfigInput;
  const base = dataOf(fingerprint, given);
  const { shapes, spacingMm, dims } = base;
  const method = methodNamed('pretrain', given.method);
  const threshold = method.threshold?.(given.loss as PretrainConfig['loss'] | undefined);
  if (threshold === undefined) return planWithoutPositions(fingerprint, given, base, method, options);
  const position = given.data?.position ?? defaultPosition(dims, threshold);
  const share = { dims, position, threshold };
  const mostVoxels = dims === 2 ? in2d(given.preset) ** 2 : MOST_VOXELS.pretrain;
  const fixed = given.data?.patch ?? undefined;

  const choose = (levels: number | undefined): { model: ModelConfig; patch: Triple; share: number } => {
    const model = planModel(given, method, base, fixed, levels, options.source);
    if (fixed) return { model, patch: fixed, share: positiveShare(shapes, { ...share, patch: fixed }) };
    const unit = patchUnit(model, method);
    if (dims === 3) return { model, ...chooseByShare(shapes, spacingMm ?? [1, 1, 1], unit, share, model) };
    const patch = roundToUnit(base.wanted, unit, mostVoxels);
    return { model, patch, share: positiveShare(shapes, { ...share, patch }) };
  };
  let choice = choose(undefined);
  // A shallower network divides a patch into smaller units, which leaves more room.
  const free = !fixed && given.model?.levels === undefined && !given.model?.strides && !given.model?.kernels;
  for (
    let levels = choice.model.levels - 1;
    free && dims === 3 && choice.share > MOST_POSITIVE && levels >= 2;
    levels--
  ) {
    const other = choose(levels);
    if (other.share < choice.share) choice = other;
  }
  const { model, patch } = choice;
  // The search looks at some shapes; what is printed is exact.
  const exact = positiveShare(shapes, { ...share, patch });
  if (exact >= 1) throw allPositive(patch, base.largest, threshold);
  const warnings: string[] = [];
  if (exact > MOST_POSITIVE) {
    const what = fixed ? `the given patch ${patch.join('×')}` : 'no patch that fits';
    const verb = fixed ? 'makes' : 'keeps them below a quarter: the best makes';
    warnings.push(
      `${what} ${verb} ${percent(exact)} of all pairs positives (more than a quarter); a smaller patch or threshold tells more apart`,
    );
  }

  const voxels = patch[0] * patch[1] * patch[2];
  const wantedBatch = dims === 2 ? 16 : clamp(Math.round(262144 / voxels), 8, 16);
  const batch = fitBatch(given.train?.batch, wantedBatch, 2, model, patch, method, options);
  const samples = batch * (given.train?.accumulate ?? 1);
  const steps = stepsOf(given, fingerprint, base, model, patch, samples, method, 2000);
  const planned: PretrainConfigInput = {
    task: 'pretrain',
    model,
    loss: { threshold },
    data: { patch, spacingMm, position, normalize: base.kinds },
    train: { batch, steps },
  };
  return finish<PretrainConfig>(planned, given, base, exact, 'same', fingerprint, warnings, options);
}

/** With as many voxels at the bottleneck as its norms want, else need, where such a patch keeps positives below a quarter. */
function chooseByShare(
  shapes: readonly Triple[],
  spacingMm: Triple,
  unit: Triple,
  share: Omit<SharePlan, 'patch'>,
  model: ModelConfig,
): PatchChoice {
  const { per, least, wanted } = backboneOf(model).bottleneck;
  const choose = (units: number) => choosePretrainPatch(shapes, spacingMm, unit, share, units);
  const best = choose(per === 'sample' ? wanted(model.dims) : 1);
  if (best && best.share <= MOST_POSITIVE) return best;
  // The smallest patch at all where none has enough: the checks say what it lacks.
  return choose(per === 'sample' ? least : 1) ?? best ?? (choose(1) as PatchChoice);
}

/** A method without positions: the patch holds as much as fine-tuning's would. */
function planWithoutPositions(
  fingerprint: Fingerprint,
  given: PretrainConfigInput,
  base: DataPlan,
  method: Method,
  options: PlanOptions,
): Plan<PretrainConfig> {
  const { dims } = base;
  const fixed = given.data?.patch ?? undefined;
  const model = planModel(given, method, base, fixed, undefined, options.source);
  const mostVoxels = dims === 2 ? in2d(given.preset) ** 2 : MOST_VOXELS.pretrain;
  const patch = fixed ?? roundToUnit(base.wanted, patchUnit(model, method), mostVoxels);
  const voxels = patch[0] * patch[1] * patch[2];
  const wantedBatch = dims === 2 ? 16 : clamp(Math.round(262144 / voxels), 4, 16);
  const batch = fitBatch(given.train?.batch, wantedBatch, 2, model, patch, method, options);
  const samples = batch * (given.train?.accumulate ?? 1);
  const steps = stepsOf(given, fingerprint, base, model, patch, samples, method, 2000);
  const planned: PretrainConfigInput = {
    task: 'pretrain',
    model,
    data: { patch, spacingMm: base.spacingMm, normalize: base.kinds },
    train: { batch, steps },
  };
  return finish<PretrainConfig>(planned, given, base, null, 'same', fingerprint, [], options);
}

export function planFinetune(
  fingerprint: Fingerprint,
  input: FinetuneConfigInput,
  options: PlanOptions = {},
): Plan<FinetuneConfig> {
  const own = readConfig(input, options.source) as FinetuneConfigInput;
  const method = methodNamed('finetune');
  const classes = own.model?.classes ?? fingerprint.classes.length;
  if (classes < 2 || (fingerprint.classes.length > 0 && classes < fingerprint.classes.length)) {
    const field = 'model.classes';
    const words = `${field}: the data set has ${fingerprint.classes.length} classes, the background counted; expected at least 2, found ${classes}`;
    throw new MaclError('config', words, { field, expected: fingerprint.classes.length, found: classes });
  }
  const merged = mergeInit(own, options.init, fingerprint, options.source ?? 'configuration');
  const given = merged.input;
  const base = dataOf(fingerprint, given);
  const { dims } = base;
  const fixed = given.data?.patch ?? undefined;
  const model = { ...planModel(given, method, base, fixed, undefined, options.source), classes };
  const mostVoxels = dims === 2 ? in2d(given.preset) ** 2 : MOST_VOXELS.finetune;
  const patch = fixed ?? roundToUnit(base.wanted, patchUnit(model, method), mostVoxels);
  const voxels = patch[0] * patch[1] * patch[2];
  const wantedBatch = dims === 2 ? clamp(Math.round(131072 / voxels), 4, 32) : clamp(Math.round(262144 / voxels), 2, 8);
  const batch = fitBatch(given.train?.batch, wantedBatch, 1, model, patch, method, options);
  const samples = batch * (given.train?.accumulate ?? 1);
  const steps = stepsOf(given, fingerprint, base, model, patch, samples, method, 3000);
  const warnings = [
    ...(dims === 3 || patch[1] >= 16 ? [] : [`a patch of ${patch.join('×')} shows little of its surroundings`]),
    ...(options.init && own.data?.normalize === undefined ? otherKindWarnings(base.kinds, fingerprint) : []),
  ];
  const planned: FinetuneConfigInput = {
    task: 'finetune',
    model,
    data: { patch, spacingMm: base.spacingMm, normalize: merged.networkKinds(base.kinds) },
    train: { batch, steps },
    ...optimizerOf(given, dims),
  };
  return finish<FinetuneConfig>(planned, given, base, null, merged.channels, fingerprint, warnings, options);
}

/**
 * Four times the published rate of Adam: measured on real volumes in 3-D, with few labels and this few steps, it reaches a
 * higher Dice (docs/hippocampus.md). Presets and 2-D keep the published one.
 */
const FINETUNE_LR = 2e-3;

function optimizerOf({ optimizer, preset }: FinetuneConfigInput, dims: 2 | 3): Pick<FinetuneConfigInput, 'optimizer'> {
  const adam = optimizer?.name !== 'sgd';
  return adam && dims === 3 && (preset === undefined || preset === 'default') ? { optimizer: { lr: FINETUNE_LR } } : {};
}

/** What preparing a data set needs of a plan: the same for both tasks, and without a patch. */
export function planData(
  fingerprint: Fingerprint,
  input: ConfigInput,
  source?: string,
): Pick<Plan, 'normalization'> & { readonly spacingMm: Triple | null } {
  const base = dataOf(fingerprint, readConfig(input, source));
  return { spacingMm: base.spacingMm, normalization: normalizationOf(base.kinds, fingerprint) };
}

interface DataPlan {
  readonly dims: 2 | 3;
  readonly spacingMm: Triple | null;
  /** Shapes at that spacing. */
  readonly shapes: readonly Triple[];
  readonly smallest: Triple;
  readonly largest: Triple;
  /** The size of a patch that holds what it should, not rounded yet. */
  readonly wanted: Triple;
  readonly kinds: readonly NormalizeKind[];
}

const in2d = (preset: ConfigInput['preset']): number => (preset === undefined || preset === 'default' ? 256 : 512);

function dataOf(fingerprint: Fingerprint, given: ConfigInput): DataPlan {
  const { cases, channelKinds } = fingerprint;
  if (cases.length === 0) throw new MaclError('dataset', 'the data set has no case to plan for');
  const dims = given.model?.dims ?? 3;
  const spacingMm = given.data?.spacingMm !== undefined ? given.data.spacingMm : targetSpacingMm(cases);
  const shapes = cases.map((c) => shapeAt(c, spacingMm));
  const along = (f: (...values: number[]) => number) => mapTriple((axis) => f(...shapes.map((s) => s[axis])));
  const flat = dims === 2 ? shapes.map((s): Triple => [1, s[1], s[2]]) : shapes;
  const mostVoxels = dims === 2 ? in2d(given.preset) ** 2 : MOST_VOXELS.finetune;
  const { normalize = 'auto' } = given.data ?? {};
  const kinds =
    normalize === 'auto'
      ? channelKinds.map(usualKind)
      : typeof normalize === 'string'
        ? channelKinds.map(() => normalize)
        : normalize;
  const wanted = wantedSize(flat, spacingMm ?? [1, 1, 1], mostVoxels, dims === 3 ? 1.25 : 1);
  return { dims, spacingMm, shapes, smallest: along(Math.min), largest: along(Math.max), wanted, kinds };
}

const usualKind = (kind: ChannelKind): NormalizeKind => (kind === 'other' ? 'robust' : kind);

/** What 'robust' clips to: a vessel or a hot voxel does not decide how flat the rest becomes. */
const ROBUST_PERCENTILES = [0.5, 99.5] as const;

/** A network that was pre-trained on CT meets MR, or the other way round: what it has learnt of intensities is void. */
function otherKindWarnings(kinds: readonly NormalizeKind[], { channelKinds }: Fingerprint): string[] {
  const usual = channelKinds.map(usualKind);
  // With or without a clip, a case scaled by its own deviation is much the same.
  const family = (kind: NormalizeKind | undefined) => (kind === 'robust' ? 'case' : kind);
  const other = usual.findIndex((kind, channel) => family(kind) !== family(kinds[channel] ?? kinds[0]));
  if (other < 0) return [];
  return [
    `channel ${other} is normalised as in the pre-trained run ("${kinds[other] ?? kinds[0]}"), but this data would have ` +
      `"${usual[other]}": intensities differ; data.normalize overrides it`,
  ];
}

function planModel(
  given: ConfigInput,
  method: Method,
  base: DataPlan,
  fixed: Triple | undefined,
  levels: number | undefined,
  source?: string,
): ModelConfig {
  const model = chooseModel(given, method, base, fixed, levels);
  checkModel(model, source);
  return model;
}

function chooseModel(
  given: ConfigInput,
  { shrinks }: Method,
  base: DataPlan,
  fixed: Triple | undefined,
  levels: number | undefined,
): ModelConfig {
  const { dims } = base;
  const model = {
    ...given.model,
    dims,
    inChannels: given.model?.inChannels ?? base.kinds.length,
    filters: given.model?.filters ?? backboneOf({ backbone: given.model?.backbone ?? DEFAULT_BACKBONE }).filters(dims),
  };
  // Levels, strides and n that are given whole leave nothing to plan; checks follow in `resolveConfig`.
  const { strides, kernels } = model;
  if (strides)
    return modelOf({ ...model, decoderBlocks: model.decoderBlocks ?? Math.min(dims === 2 ? 2 : 1, strides.length) });
  const topology = planTopology({
    dims,
    shrinks,
    spacingMm: base.spacingMm,
    size: fixed ?? base.wanted,
    exact: fixed !== undefined,
    levels: levels ?? model.levels ?? (kernels ? kernels.length - 1 : undefined),
    decoderBlocks: model.decoderBlocks,
  });
  return modelOf({ ...model, ...topology, ...(kernels ? { kernels } : {}) });
}

function fitBatch(
  fixed: number | undefined,
  wanted: number,
  least: number,
  model: ModelConfig,
  patch: Triple,
  method: Method,
  options: PlanOptions,
): number {
  const { limitBytes, bytesOf = (m: ModelConfig, p: Triple, b: number) => estimateBytes(m, p, b, method) } = options;
  let batch = fixed ?? wanted;
  if (limitBytes === undefined) return batch;
  while (fixed === undefined && batch > least && bytesOf(model, patch, batch) > limitBytes)
    batch = Math.max(least, Math.floor(batch / 2));
  const needed = bytesOf(model, patch, batch);
  if (needed > limitBytes) {
    throw memoryError(`a batch of ${batch} patches of ${patch.join('×')}`, needed, limitBytes);
  }
  return batch;
}

/** As many as 45 minutes on two cores hold, at most `most`; a published preset trains its 100 epochs. */
function stepsOf(
  given: ConfigInput,
  { cases }: Fingerprint,
  base: DataPlan,
  model: ModelConfig,
  patch: Triple,
  samples: number,
  method: Method,
  most: number,
): number {
  if (given.train?.steps !== undefined) return given.train.steps;
  if (given.preset !== undefined && given.preset !== 'default') {
    const slices = base.shapes.reduce((sum, s) => sum + s[0], 0);
    return Math.max(1, Math.round((100 * slices) / samples));
  }
  if (cases.length === 0) return most;
  const inTime = 2700 / estimateStepSeconds(model, patch, samples, method);
  return clamp(Math.round(inTime / 100) * 100, Math.min(500, most), most);
}

function finish<C extends ResolvedConfig>(
  planned: ConfigInput,
  given: ConfigInput,
  base: DataPlan,
  share: number | null,
  channels: Plan['channels'],
  fingerprint: Fingerprint,
  warnings: readonly string[],
  options: PlanOptions,
): Plan<C> {
  // The plan lies below what was given, except where what was given is a wish ('auto') or a shorter way to say it.
  const input = mergeConfig<ConfigInput>(planned, given, {
    data: { normalize: planned.data?.normalize, patch: planned.data?.patch },
    model: planned.model,
  });
  const config = resolveConfig(input, options.source === undefined ? {} : { source: options.source }) as Planned<C>;
  const { model, train } = config;
  const { patch } = config.data;
  return {
    config,
    normalization: normalizationOf(base.kinds, fingerprint),
    lambda: lambdaOf(model),
    positiveShare: share,
    channels,
    cases: fingerprint.cases.length,
    smallestShape: base.smallest,
    largestShape: base.largest,
    estimatedBytes: (options.bytesOf ?? ((m, p, b) => estimateBytes(m, p, b, methodOf(config))))(
      model,
      patch,
      train.batch,
    ),
    warnings: [...warnings, ...bottleneckWarnings(model, patch, methodOf(config))],
  };
}

function bottleneckWarnings(model: ModelConfig, patch: Triple, method: Method): string[] {
  const { per, wanted } = backboneOf(model).bottleneck;
  const voxels = bottleneckVoxels(patch, model, method);
  if (per === 'batch' || voxels >= wanted(model.dims)) return [];
  return [
    `a patch of ${patch.join('×')} leaves ${voxels} voxels a sample at the bottleneck, over which ${model.backbone} normalises: ` +
      `${wanted(model.dims)} or more say more of a sample`,
  ];
}

/** The numbers that CT needs come from the data set; everything else is normalised case by case. */
function normalizationOf(
  kinds: readonly NormalizeKind[],
  { intensity, channelKinds }: Fingerprint,
): ChannelNormalization[] {
  return channelKinds.map((_, channel) => {
    const kind = kinds[channel] ?? kinds[0];
    if (kind === 'robust') return { kind, percentiles: ROBUST_PERCENTILES };
    if (kind !== 'ct') return { kind: kind ?? 'case' };
    const found = intensity[channel];
    if (!found)
      throw new MaclError(
        'dataset',
        `channel ${channel}: its intensities were not measured, and ct normalisation needs them`,
      );
    return { kind: 'ct', low: found.p005, high: found.p995, mean: found.mean, std: found.sd };
  });
}

function allPositive(patch: Triple, largest: Triple, threshold: number | readonly number[]): MaclError {
  const field = 'data.patch';
  const words =
    `${field}: ${patch.join('×')} holds the cases (at most ${largest.join('×')}), so that at threshold ${String(threshold)} every pair of ` +
    `samples is a positive and the best solution is collapse: take a smaller patch or threshold`;
  return new MaclError('config', words, { field, expected: 'a patch that leaves room to move', found: patch });
}

const clamp = (x: number, low: number, high: number): number => Math.min(high, Math.max(low, x));
export const percent = (share: number): string => `${(100 * share).toFixed(share < 0.1 ? 1 : 0)}%`;
