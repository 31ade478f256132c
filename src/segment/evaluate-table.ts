/**
 * The text forms of an evaluation: the table, one row a class and one for all, each metric with its 95% interval, then the
 * worst cases; and the CSV, a row a case and class. A program reads the JSON document.
 */
import { type EvaluationDocument, type MetricIntervals, type MetricValues } from './evaluate.js';
import { METRIC_NAMES, type MetricName, SHOWN_METRICS } from './metrics.js';

/** Cases at the table's end; the others are counted. */
const CASES_SHOWN = 10;

const UNITS: Readonly<Record<MetricName, string>> = {
  dice: 'Dice',
  jaccard: 'Jaccard',
  hd95_monai: 'HD95 monai (mm)',
  hd95_medpy: 'HD95 medpy (mm)',
  asd: 'ASD (mm)',
  assd_pooled: 'ASSD pooled (mm)',
  assd_mean: 'ASSD mean (mm)',
  assd: 'ASSD (mm)',
};

function digits(metric: MetricName): number {
  return metric === 'dice' || metric === 'jaccard' ? 3 : 2;
}

function signed(value: number, places: number, sign: boolean): string {
  return `${sign && value >= 0 ? '+' : ''}${value.toFixed(places)}`;
}

function cell(
  value: number | null,
  interval: readonly [number, number] | null,
  metric: MetricName,
  sign: boolean,
): string {
  if (value === null) return '-';
  const text = signed(value, digits(metric), sign);
  if (!interval) return text;
  return `${text} [${interval.map((end) => signed(end, digits(metric), sign)).join(', ')}]`;
}

/** Rows of cells, first column to the left, the others to the right, two spaces between. */
export function alignColumns(rows: readonly (readonly string[])[]): string {
  const widths = rows[0]!.map((_, column) => Math.max(...rows.map((row) => row[column]!.length)));
  return rows
    .map((row) =>
      row
        .map((text, column) => (column === 0 ? text.padEnd(widths[0]!) : text.padStart(widths[column]!)))
        .join('  ')
        .trimEnd(),
    )
    .join('\n');
}

function rowName(key: string, classes: Readonly<Record<string, string>>): string {
  const name = Object.hasOwn(classes, key) ? classes[key] : undefined;
  return name === undefined ? key : `${key} ${name}`;
}

function table(
  mean: Readonly<Record<string, MetricValues>>,
  ci95: Readonly<Record<string, MetricIntervals>>,
  classes: Readonly<Record<string, string>>,
  sign: boolean,
): string {
  const head = ['class', ...SHOWN_METRICS.map((name) => UNITS[name])];
  const rows = Object.entries(mean).map(([key, values]) => [
    rowName(key, classes),
    ...SHOWN_METRICS.map((name) => cell(values[name], ci95[key]![name], name, sign)),
  ]);
  return alignColumns([head, ...rows]);
}

/** What was left out of the means, a line each; empty where nothing was. */
function excludedLines(document: EvaluationDocument): string[] {
  const lines: string[] = [];
  for (const [key, counts] of Object.entries(document.excluded)) {
    const name = rowName(key, document.classes);
    // All overlaps are undefined together, and all distances are infinite together.
    const { undefined: both } = counts.dice;
    const { infinite } = counts.assd_pooled;
    if (both) lines.push(`${name}: ${both} with both masks empty, left out`);
    if (infinite) lines.push(`${name}: ${infinite} with one mask empty, distances infinite, left out of them`);
  }
  return lines;
}

/** A case's value over its classes: the mean of those that are defined. */
function overClasses(values: readonly (number | null)[]): number | null {
  const defined = values.filter((value) => value !== null);
  return defined.length ? defined.reduce((sum, value) => sum + value, 0) / defined.length : null;
}

/** The cases by Dice over their classes, the worst first; those with nothing to judge last. */
function worstCases({ cases }: EvaluationDocument): string {
  const rows = Object.entries(cases).map(([id, classes]) => {
    const of = (name: MetricName): number | null => overClasses(Object.values(classes).map((values) => values[name]));
    return { id, dice: of('dice'), cells: SHOWN_METRICS.map((name) => cell(of(name), null, name, false)) };
  });
  rows.sort((a, b) => (a.dice ?? Infinity) - (b.dice ?? Infinity) || (a.id < b.id ? -1 : 1));
  const shown = rows.slice(0, CASES_SHOWN);
  const more = rows.length - shown.length;
  const head = ['case, worst first', ...SHOWN_METRICS.map((name) => UNITS[name])];
  const table = alignColumns([head, ...shown.map(({ id, cells }) => [id, ...cells])]);
  return more > 0 ? `${table}\nand ${more} more: --csv and --json have all` : table;
}

/** Means with 95% intervals, what was left out, the paired difference where there is one, the worst cases. No newline. */
export function evaluationTable(document: EvaluationDocument): string {
  const count = Object.keys(document.cases).length;
  const cases = (n: number): string => `${n} ${n === 1 ? 'case' : 'cases'}`;
  const heading = (n: number, reason: string | undefined): string =>
    reason === undefined ? 'mean [95% interval]' : `mean; no interval: ${reason}`;
  const parts = [
    `${cases(count)}, ${heading(count, document.noInterval)}`,
    table(document.mean, document.ci95, document.classes, false),
    ...excludedLines(document),
  ];
  const { against } = document;
  if (against) {
    parts.push('', `difference with --against, paired over ${cases(against.cases)}`);
    if (against.noInterval !== undefined) parts.push(`no interval: ${against.noInterval}`);
    parts.push(table(against.mean, against.ci95, document.classes, true));
  }
  if (count > 1) parts.push('', worstCases(document));
  return parts.join('\n');
}

/** A field as RFC 4180 has it. */
const csvField = (text: string): string => (/[",\r\n]/.test(text) ? `"${text.replaceAll('"', '""')}"` : text);

/** A row a case and class: values as they are, empty where they are not defined; `empty` says which mask has no voxel. */
export function evaluationCsv(document: EvaluationDocument): string {
  const rows = [['case', 'class', 'name', ...METRIC_NAMES, 'empty']];
  for (const [id, classes] of Object.entries(document.cases))
    for (const [key, values] of Object.entries(classes)) {
      const name = Object.hasOwn(document.classes, key) ? document.classes[key]! : '';
      const numbers = METRIC_NAMES.map((metric) => (values[metric] === null ? '' : String(values[metric])));
      rows.push([id, key, name, ...numbers, values.empty ?? '']);
    }
  return rows.map((row) => row.map(csvField).join(',')).join('\n');
}
