/**
 * From metrics of many cases to one document: means over cases, bootstrap intervals, the paired difference with another
 * set of predictions. Pure: reading folders is `src/predict/evaluate-files.ts`, the text table `evaluate-table.ts`.
 *
 * A mean over all classes is taken within a case first, then over cases. What has no finite value is left out of a mean
 * and counted in `excluded`.
 */
import { MaclError } from '../errors.js';
import { bootstrapIntervals, type BootstrapOptions, finiteMean, type Interval } from './bootstrap.js';
import { type CaseMetrics, type EmptyMask, METRIC_NAMES, type MetricName } from './metrics.js';

/** One label value and, where known, its name. */
export interface ClassLabel {
  readonly value: number;
  readonly name?: string;
}

/** JSON has no NaN or Infinity: those are null. */
export type MetricValues = Record<MetricName, number | null>;
export type ClassMetricsJson = MetricValues & { empty?: EmptyMask };
export type MetricIntervals = Record<MetricName, [number, number] | null>;

/** Cases left out of a mean: `undefined` with nothing to judge (both empty), `infinite` with one mask empty. */
export type ExcludedCounts = Record<MetricName, { undefined: number; infinite: number }>;

/** Keys of the inner records are label values as strings, and `all`. */
export interface PairedDifference {
  /** Why `ci95` holds nothing. */
  noInterval?: string;
  /** Cases in both sets. */
  cases: number;
  mean: Record<string, MetricValues>;
  ci95: Record<string, MetricIntervals>;
}

export interface EvaluationDocument {
  /** Why `ci95` holds nothing: with so few cases there is no interval to give. */
  noInterval?: string;
  cases: Record<string, Record<string, ClassMetricsJson>>;
  mean: Record<string, MetricValues>;
  ci95: Record<string, MetricIntervals>;
  /** Label value → name, where names are known. */
  classes: Record<string, string>;
  excluded: Record<string, ExcludedCounts>;
  /** These predictions minus the others, case by case. */
  against?: PairedDifference;
}

export type CasesMetrics = ReadonlyMap<string, CaseMetrics>;

export interface SummaryOptions extends BootstrapOptions {
  /** Metrics of other predictions of the same cases; the difference is this minus that. */
  against?: CasesMetrics;
}

const ALL = 'all';

/** Values of one class (or of `all`) and metric over the cases, in the cases' order. */
interface Column {
  key: string;
  metric: MetricName;
  values: Float64Array;
}

/** The value of a case over all classes: the mean of the finite ones; else Infinity where one is infinite; else NaN. */
function overClasses(values: readonly number[]): number {
  const value = finiteMean(values);
  if (!Number.isNaN(value)) return value;
  return values.includes(Infinity) ? Infinity : NaN;
}

/** `valuesOf` gives a case's values, one a class, in the order of `classes`. */
function columnsOf(
  names: readonly string[],
  classes: readonly ClassLabel[],
  valuesOf: (name: string, metric: MetricName) => number[],
): Column[] {
  const out: Column[] = [];
  for (const metric of METRIC_NAMES) {
    const rows = names.map((name) => valuesOf(name, metric));
    classes.forEach((label, c) => {
      out.push({ key: String(label.value), metric, values: Float64Array.from(rows, (row) => row[c]!) });
    });
    out.push({ key: ALL, metric, values: Float64Array.from(rows, overClasses) });
  }
  return out;
}

function finiteOrNull(value: number): number | null {
  return Number.isFinite(value) ? value : null;
}

function intervalOrNull(interval: Interval): [number, number] | null {
  return Number.isFinite(interval[0]) && Number.isFinite(interval[1]) ? [interval[0], interval[1]] : null;
}

/** A record of records in the order of classes, then `all`; own keys only, whatever the key is called. */
function byKey<T>(
  columns: readonly Column[],
  value: (column: Column, index: number) => T,
): Record<string, Record<MetricName, T>> {
  const keys = [...new Set(columns.map((column) => column.key))];
  return Object.fromEntries(
    keys.map((key) => {
      const entries = columns.flatMap((column, index) =>
        column.key === key ? [[column.metric, value(column, index)] as const] : [],
      );
      return [key, Object.fromEntries(entries) as Record<MetricName, T>];
    }),
  );
}

function caseJson(metrics: CaseMetrics, classes: readonly ClassLabel[]): Record<string, ClassMetricsJson> {
  return Object.fromEntries(
    classes.map(({ value }) => {
      const found = metrics.get(value)!;
      const values = Object.fromEntries(METRIC_NAMES.map((name) => [name, finiteOrNull(found[name])])) as MetricValues;
      return [String(value), found.empty ? { ...values, empty: found.empty } : values];
    }),
  );
}

function valueIn(cases: CasesMetrics, name: string, label: ClassLabel, metric: MetricName): number {
  const found = cases.get(name)?.get(label.value);
  if (found) return found[metric];
  throw new MaclError('dataset', `${name}: class ${label.value}: has no metrics`, { field: String(label.value) });
}

/** Drawn again and again from fewer values, a mean moves between them and says nothing of other cases. */
const LEAST_CASES = 3;

async function meansAndIntervals(
  columns: readonly Column[],
  options: BootstrapOptions,
): Promise<Pick<PairedDifference, 'mean' | 'ci95' | 'noInterval'>> {
  const count = columns[0]?.values.length ?? 0;
  const intervals = await bootstrapIntervals(
    columns.map((column) => column.values),
    options,
  );
  return {
    mean: byKey(columns, (column) => finiteOrNull(finiteMean(column.values))),
    ci95: byKey(columns, ({ values }, index) =>
      values.filter(Number.isFinite).length < LEAST_CASES ? null : intervalOrNull(intervals[index]!),
    ),
    ...(count < LEAST_CASES && {
      noInterval: `${count} ${count === 1 ? 'case says' : 'cases say'} nothing of how cases differ, ${LEAST_CASES} are the least`,
    }),
  };
}

/** The difference of two values where both are finite; NaN elsewhere. */
function difference(a: number, b: number): number {
  return Number.isFinite(a) && Number.isFinite(b) ? a - b : NaN;
}

/**
 * The whole document of `macl evaluate --json`. Cases keep the map's order; the bootstrap draws cases in order of
 * their names, so that the intervals do not depend on it. Throws MaclError `dataset` where a case or class is missing.
 */
export async function summarise(
  cases: CasesMetrics,
  classes: readonly ClassLabel[],
  options: SummaryOptions = {},
): Promise<EvaluationDocument> {
  const names = [...cases.keys()].sort();
  if (names.length === 0) throw new MaclError('dataset', 'cases: none to evaluate', { field: 'cases' });
  const columns = columnsOf(names, classes, (name, metric) =>
    classes.map((label) => valueIn(cases, name, label, metric)),
  );
  const { mean, ci95, noInterval } = await meansAndIntervals(columns, options);
  const document: EvaluationDocument = {
    cases: Object.fromEntries([...cases].map(([name, metrics]) => [name, caseJson(metrics, classes)])),
    mean,
    ci95,
    ...(noInterval !== undefined && { noInterval }),
    classes: Object.fromEntries(
      classes.flatMap(({ value, name }) => (name === undefined ? [] : [[String(value), name]])),
    ) as Record<string, string>,
    excluded: byKey(columns, ({ values }) => ({
      undefined: values.filter((value) => Number.isNaN(value)).length,
      infinite: values.filter((value) => value === Infinity).length,
    })),
  };
  if (options.against) document.against = await pairedDifference(cases, options.against, classes, options);
  return document;
}

/**
 * `cases` minus `others`, case by case, over the cases that both have. A class counts in a case where both values are
 * finite; `all` is the mean of those differences, so that a class missing on one side does not shift it.
 */
export async function pairedDifference(
  cases: CasesMetrics,
  others: CasesMetrics,
  classes: readonly ClassLabel[],
  options: BootstrapOptions = {},
): Promise<PairedDifference> {
  const names = [...cases.keys()].filter((name) => others.has(name)).sort();
  if (names.length === 0) throw new MaclError('dataset', 'against: has no case in common', { field: 'against' });
  const columns = columnsOf(names, classes, (name, metric) =>
    classes.map((label) => difference(valueIn(cases, name, label, metric), valueIn(others, name, label, metric))),
  );
  return { cases: names.length, ...(await meansAndIntervals(columns, options)) };
}
