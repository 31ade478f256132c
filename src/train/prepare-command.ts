/** `macl prepare`: checks every case of a dataset and fills the cache that training reads. */
import type { PretrainConfigInput } from '../config/types.js';
import { describePlan } from '../config/index.js';
import { defaultCacheDir } from '../data/cache.js';
import { prepareDataset } from '../data/prepare.js';
import { finetunePlan, inspectCases, openData, pretrainPlan, type DataOptions } from './setup.js';

export interface PrepareOptions extends DataOptions {
  /** Where the prepared cases go; the cache where absent. Training takes it with `cacheDir`. */
  readonly out?: string | undefined;
  /** As for pre-training: spacing, normalisation, slice axis and non-finite rule matter here. */
  readonly config?: Omit<PretrainConfigInput, 'task'> | undefined;
}

export interface PrepareSummary {
  readonly cases: number;
  readonly labelled: number;
  readonly skipped: readonly { readonly id: string; readonly message: string }[];
  readonly cacheDir: string;
}

export async function prepare(options: PrepareOptions): Promise<PrepareSummary> {
  const dataset = await openData(options);
  const cacheDir = options.out ?? options.cacheDir ?? defaultCacheDir();
  const data = options.config?.data ?? {};
  const want = { labels: true, nonFinite: data.nonFinite ?? 'refuse', sliceAxis: data.sliceAxis ?? 'D' } as const;
  const ids = dataset.cases.map((c) => c.id);
  const { found, plan: measured } = await inspectCases(dataset, ids, want, { ...options, cacheDir });
  const hasLabels = measured.classes.length > 1;
  // The planner decides spacing and normalisation alike for both tasks.
  const config = { ...options.config, data };
  const plan = hasLabels
    ? finetunePlan(measured, { ...(config as object), task: 'finetune' }, null)
    : pretrainPlan(measured, { ...config, task: 'pretrain' });
  options.onEvent?.({ kind: 'plan', lines: describePlan(plan).slice(1, 2) });
  const bad = new Set(found.bad.map((b) => b.id));
  const prepared = await prepareDataset({
    dataset,
    caseIds: ids.filter((id) => !bad.has(id)),
    settings: {
      spacingMm: plan.config.data.spacingMm,
      normalize: [...plan.normalization],
      nonFinite: plan.config.data.nonFinite,
      sliceAxis: plan.config.data.sliceAxis,
    },
    labels: 'optional',
    classes: found.classes,
    cacheDir,
    skipBad: options.skipBad ?? false,
    ...(options.signal ? { signal: options.signal } : {}),
    onProgress: (done, total, id) => options.onEvent?.({ kind: 'cases', what: 'prepare', done, total, id }),
  });
  return {
    cases: prepared.cases.length,
    labelled: prepared.cases.filter((c) => c.hasLabels).length,
    skipped: [...found.bad, ...prepared.skipped].map(({ id, error }) => ({ id, message: error.message })),
    cacheDir: prepared.cacheDir,
  };
}
