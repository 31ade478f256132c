/** `macl prepare`: checks every case of a dataset and fills the cache that training reads. */
import { resolve } from 'node:path';
import type { PretrainConfigInput } from '../settings/types.js';
import { planData } from '../config/index.js';
import { defaultCacheDir } from '../data/cache.js';
import { makeFolder } from '../data/files.js';
import { labelFindings } from '../data/findings.js';
import { prepareDataset } from '../data/prepare/dataset.js';
import { MaclError } from '../errors.js';
import { checkOptions, type OptionKinds } from '../options.js';
import { chosenCases } from './cases.js';
import { configFor } from '../model/config-file.js';
import { DATA_OPTIONS, inspectCases, openData, type DataOptions } from './setup.js';
import { withSliceAxis } from './slice-axis.js';
import { configPaths } from './trainer.js';
import { counted } from '../words.js';

export interface PrepareOptions extends DataOptions {
  /** Where the prepared cases go, as `cacheDir`: training takes it with that. Only one of them is given. */
  readonly out?: string | undefined;
  /** As for pre-training: spacing, normalisation, slice axis and non-finite rule matter here. */
  readonly config?: Omit<PretrainConfigInput, 'task'> | undefined;
}

export interface PrepareSummary {
  readonly cases: number;
  readonly labelled: number;
  /** The bad files; a case that is left out may have several. */
  readonly skipped: readonly { readonly id: string; readonly message: string }[];
  readonly cacheDir: string;
  /** Files of the dataset that are no part of it (masks without image, other endings), and why. */
  readonly notTaken: readonly { readonly path: string; readonly why: string }[];
}

const OPTIONS: OptionKinds<PrepareOptions> = { ...DATA_OPTIONS, out: 'text', config: 'object' };

export async function prepare(options: PrepareOptions): Promise<PrepareSummary> {
  checkOptions('prepare', options, OPTIONS, ['data'], configPaths('pretrain'));
  if (
    options.out !== undefined &&
    options.cacheDir !== undefined &&
    resolve(options.out) !== resolve(options.cacheDir)
  ) {
    const words = `--out ${options.out} and --cache ${options.cacheDir}: both say where the prepared cases go; give one`;
    throw new MaclError('config', words, { field: '--out' });
  }
  // Given by name: it is to be written to.
  if (options.out !== undefined) await makeFolder(options.out);
  const dataset = await openData(options);
  const cacheDir = options.out ?? options.cacheDir ?? defaultCacheDir();
  const given = configFor<PretrainConfigInput>('pretrain', options.config);
  const ids = (await chosenCases(dataset, options.cases, given.train?.seed ?? 0)).map(({ id }) => id);
  const say = (message: string): void => options.onEvent?.({ kind: 'note', message });
  const config = await withSliceAxis(given, dataset, ids, say, options.signal);
  const data = config.data ?? {};
  const want = { labels: true, nonFinite: data.nonFinite ?? 'refuse', sliceAxis: data.sliceAxis ?? 'D' } as const;
  const { found, plan: measured } = await inspectCases(dataset, ids, want, { ...options, cacheDir });
  // Of all cases, whatever they are for; training looks at its own.
  for (const words of labelFindings(found, ids)) options.onEvent?.({ kind: 'warning', message: words });
  // Spacing and normalisation are planned alike for both tasks; patches do not matter here.
  const plan = planData(measured, config);
  const spacing = plan.spacingMm ? `${plan.spacingMm.join('×')} mm` : 'their own spacing';
  const message = `${counted(measured.cases.length, 'case')} at ${spacing}, normalised ${plan.normalization.map((n) => n.kind).join(', ')}`;
  options.onEvent?.({ kind: 'note', message });
  const bad = new Set(found.bad.map((b) => b.id));
  const prepared = await prepareDataset({
    dataset,
    caseIds: ids.filter((id) => !bad.has(id)),
    settings: {
      spacingMm: plan.spacingMm,
      normalize: plan.normalization,
      nonFinite: want.nonFinite,
      sliceAxis: want.sliceAxis,
    },
    labels: 'optional',
    classes: found.classes,
    cacheDir,
    skipBad: options.skipBad ?? false,
    ...(options.signal ? { signal: options.signal } : {}),
    onProgress: (done, total, id) => options.onEvent?.({ kind: 'cases', what: 'prepare', done, total, id }),
  });
  for (const words of prepared.warnings) options.onEvent?.({ kind: 'warning', message: words });
  return {
    cases: prepared.cases.length,
    labelled: prepared.cases.filter((c) => c.hasLabels).length,
    skipped: [...found.bad, ...prepared.skipped].map(({ id, error }) => ({ id, message: error.message })),
    cacheDir: prepared.cacheDir,
    notTaken: dataset.notTaken,
  };
}
