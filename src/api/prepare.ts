/** Checks and prepares every case of a dataset, so that training finds it ready. */
import { planData } from '../config/index.js';
import { defaultCacheDir } from '../data/cache.js';
import { prepareDataset } from '../data/prepare.js';
import { inspectCases, openData, pretrainCases, type DataOptions } from '../train/setup.js';
import type { PrepareOptions, PrepareSummary } from './types.js';

/** @throws MaclError `dataset` that names every bad file, unless `skipBad` */
export async function prepare(options: PrepareOptions): Promise<PrepareSummary> {
  const { onEvent } = options;
  const data: DataOptions = { ...options, cacheDir: options.out };
  const input = options.config ?? { task: 'pretrain' };
  const dataset = await openData(data);
  const { train: ids } = await pretrainCases(dataset, options.cases, input.train?.seed ?? 0);
  const labelled = dataset.cases.some((c) => c.label !== undefined);
  const { nonFinite = 'refuse', sliceAxis = 'D' } = input.data ?? {};
  const { found, plan: measured } = await inspectCases(dataset, ids, { labels: labelled, nonFinite, sliceAxis }, data);
  const { spacingMm, normalization } = planData(measured, input);
  const bad = new Set(found.bad.map((b) => b.id));
  const prepared = await prepareDataset({
    dataset,
    caseIds: ids.filter((id) => !bad.has(id)),
    settings: { spacingMm, normalize: [...normalization], nonFinite, sliceAxis },
    labels: labelled ? 'optional' : 'none',
    cacheDir: options.out ?? defaultCacheDir(),
    skipBad: options.skipBad ?? false,
    ...(options.signal ? { signal: options.signal } : {}),
    onProgress: (done, total, id) => onEvent?.({ kind: 'cases', what: 'prepare', done, total, id }),
  });
  for (const message of prepared.warnings) onEvent?.({ kind: 'warning', message });
  const skipped = [...found.bad, ...prepared.skipped].map(({ id, error }) => ({ id, reason: error.message }));
  for (const { id, reason } of skipped) onEvent?.({ kind: 'warning', message: `left out ${id}: ${reason}` });
  return {
    folder: prepared.cacheDir,
    cases: prepared.cases.length,
    labelled: prepared.cases.filter((c) => c.hasLabels).length,
    bytes: prepared.cases.reduce((sum, c) => sum + c.bytes, 0),
    skipped,
  };
}
