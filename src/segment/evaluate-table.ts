/**
 * The text form of an evaluation: one row a class and one for all, each metric with its 95% interval. For people; a
 * program reads the JSON document.
 */
import { type EvaluationDocument, type MetricIntervals, type MetricValues } from './evaluate.js';
import { METRIC_NAMES, type MetricName } from './metrics.js';

const UNITS: Readonly<Record<MetricName, string>> = {
  dice: 'Dice',
  jaccard: 'Jaccard',
  hd95_monai: 'HD95 monai (mm)',
  hd95_medpy: 'HD95 medpy (mm)',
  asd: 'ASD (mm)',
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
  const head = ['class', ...METRIC_NAMES.map((name) => UNITS[name])];
  const rows = Object.entries(mean).map(([key, values]) => [
    rowName(key, classes),
    ...METRIC_NAMES.map((name) => cell(values[name], ci95[key]![name], name, sign)),
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
    const { infinite } = counts.assd;
    if (both) lines.push(`${name}: ${both} with both masks empty, left out`);
    if (infinite) lines.push(`${name}: ${infinite} with one mask empty, distances infinite, left out of them`);
  }
  return lines;
}

/** Means with 95% intervals, what was left out, and the paired difference where there is one. Ends without a newline. */
export function evaluationTable(document: EvaluationDocument): string {
  const count = Object.keys(document.cases).length;
  const parts = [
    `${count} ${count === 1 ? 'case' : 'cases'}, mean [95% interval]`,
    table(document.mean, document.ci95, document.classes, false),
    ...excludedLines(document),
  ];
  const { against } = document;
  if (against) {
    const cases = `${against.cases} ${against.cases === 1 ? 'case' : 'cases'}`;
    parts.push('', `difference with --against, paired over ${cases}`);
    parts.push(table(against.mean, against.ci95, document.classes, true));
  }
  return parts.join('\n');
}
