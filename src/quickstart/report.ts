/**
 * What a quickstart says at its end: the table of the three models with intervals, and the comparisons in words that claim
 * no more than was measured. Pure text.
 */
import { alignColumns } from '../segment/evaluate-table.js';
import type { EvaluationDocument } from '../segment/evaluate.js';

export type Interval = readonly [number, number];

/** A mean over test cases with its 95% interval; null where nothing was defined. */
export interface Measured {
  readonly dice: number | null;
  readonly ci95: Interval | null;
}

type Part = Pick<EvaluationDocument, 'mean' | 'ci95'>;

/** The models of a quickstart, in the order of `report.json`. */
export const ROWS = ['scratch', 'pre-trained', 'scratch+'] as const;
export type RowName = (typeof ROWS)[number];

export type Judged = Readonly<Record<RowName, EvaluationDocument>> & {
  /** Pre-trained minus the other, case by case. */
  readonly differences: Readonly<Record<'scratch' | 'scratch+', Part>>;
};

/** `all` (classes averaged within a case) of the metric Dice. */
export function overall(part: Part): Measured {
  return { dice: part.mean['all']?.dice ?? null, ci95: part.ci95['all']?.dice ?? null };
}

function cell(value: number | null, interval: Interval | null, places: number, sign = false): string {
  if (value === null) return '-';
  const show = (x: number): string => `${sign && x >= 0 ? '+' : ''}${x.toFixed(places)}`;
  return interval ? `${show(value)} [${show(interval[0])}, ${show(interval[1])}]` : show(value);
}

function row(name: string, part: Part, keys: readonly string[], sign = false): string[] {
  return [
    name,
    ...keys.map((key) => cell(part.mean[key]!.dice, part.ci95[key]!.dice, 3, sign)),
    cell(part.mean['all']!.assd_pooled, part.ci95['all']!.assd_pooled, 2, sign),
  ];
}

/** A row a model, then pre-trained against both others; a column a class, all classes, and the surface distance. */
export function comparisonTable(judged: Judged): string {
  const { scratch, differences } = judged;
  const keys = Object.keys(scratch.mean);
  const heads = keys.map((key) => `Dice ${key === 'all' ? 'mean' : (scratch.classes[key] ?? key)}`);
  return alignColumns([
    ['', ...heads, 'ASSD (mm)'],
    row('scratch', scratch, keys),
    row('scratch+', judged['scratch+'], keys),
    row('pre-trained', judged['pre-trained'], keys),
    row('against scratch', differences.scratch, keys, true),
    row('against scratch+', differences['scratch+'], keys, true),
  ]);
}

/** A comparison of the pre-trained model in a sentence, whichever way it went. */
export function verdict(difference: Measured, testCases: number, against: string): string {
  const { dice, ci95 } = difference;
  const over = `over ${testCases} unseen volumes`;
  if (dice === null || ci95 === null) return `Against ${against} the difference is not defined ${over}.`;
  const by = `${Math.abs(dice).toFixed(3)} Dice`;
  const interval = `95% interval ${ci95.map((x) => `${x >= 0 ? '+' : ''}${x.toFixed(3)}`).join(' to ')}`;
  if (ci95[0] > 0) return `Against ${against} the pre-trained model is ahead: ${by} more ${over} (${interval}).`;
  if (ci95[1] < 0) return `Against ${against} the pre-trained model is behind: ${by} less ${over} (${interval}).`;
  const way = dice >= 0 ? 'more' : 'less';
  return `Against ${against} this run shows no difference: ${by} ${way} ${over}, and the ${interval} holds 0.`;
}

export const CAVEAT =
  'One run with one seed on synthetic volumes; intervals are over volumes, and another seed can come out otherwise.\n' +
  'It shows that every part works, and says nothing about real data. Three seeds side by side: docs/quickstart.md.';
