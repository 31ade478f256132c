import { describe, expect, it } from 'vitest';
import { bootstrapIntervals, finiteMean } from '../../src/segment/bootstrap.js';
import { pairedDifference, summarise } from '../../src/segment/evaluate.js';
import { evaluationCsv, evaluationTable } from '../../src/segment/evaluate-table.js';
import { type CaseMetrics, type ClassMetrics, type EmptyMask } from '../../src/segment/metrics.js';

function of(dice: number, distance: number, empty?: EmptyMask): ClassMetrics {
  return {
    dice,
    jaccard: dice / (2 - dice),
    hd95_monai: distance,
    hd95_medpy: distance,
    asd: distance,
    assd_pooled: distance,
    assd_mean: distance,
    assd: distance,
    ...(empty ? { empty } : {}),
  };
}

function cases(entries: Record<string, [ClassMetrics, ClassMetrics]>): Map<string, CaseMetrics> {
  return new Map(
    Object.entries(entries).map(([name, [one, two]]) => [
      name,
      new Map([
        [1, one],
        [2, two],
      ]),
    ]),
  );
}

const LABELS = [{ value: 1, name: 'Anterior' }, { value: 2 }];
const NOTHING = of(NaN, NaN, 'both');
const MISSED = of(0, Infinity, 'pred');

describe('bootstrap', () => {
  it('has the width of the normal approximation, and equal columns get equal intervals', async () => {
    const values = Float64Array.from({ length: 100 }, (_, i) => Math.sin(i * 12.9898) * 3 + 5);
    const [first, second] = await bootstrapIntervals([values, values.slice()]);
    expect(first).toEqual(second);
    const mean = finiteMean(values);
    const deviation = Math.sqrt(finiteMean(values.map((value) => (value - mean) ** 2)));
    const half = (1.96 * deviation) / Math.sqrt(values.length);
    expect(Math.abs(first![0] - (mean - half))).toBeLessThan(half * 0.15);
    expect(Math.abs(first![1] - (mean + half))).toBeLessThan(half * 0.15);
  });

  it('is the same for the same seed, and another for another', async () => {
    const values = [1, 2, 4, 8, 16, 32, 64];
    expect(await bootstrapIntervals([values], { draws: 200 })).toEqual(
      await bootstrapIntervals([values], { draws: 200 }),
    );
    expect(await bootstrapIntervals([values], { draws: 200 })).not.toEqual(
      await bootstrapIntervals([values], { draws: 200, seed: 1 }),
    );
  });

  it('leaves values that are not finite out', async () => {
    const [some, none] = await bootstrapIntervals([
      [2, NaN, 2, Infinity],
      [NaN, NaN, Infinity, NaN],
    ]);
    expect(some).toEqual([2, 2]);
    expect(none).toEqual([NaN, NaN]);
  });
});

describe('summary', () => {
  it('means over classes within a case, then over cases; leaves out and counts', async () => {
    const document = await summarise(
      cases({
        a: [of(0.8, 1), of(0.6, 3)],
        b: [of(0.4, 5), NOTHING],
        c: [MISSED, NOTHING],
        d: [NOTHING, NOTHING],
      }),
      LABELS,
    );
    expect(document.mean['1']!.dice).toBeCloseTo((0.8 + 0.4 + 0) / 3, 12);
    expect(document.mean['2']!.dice).toBeCloseTo(0.6, 12);
    expect(document.mean['all']!.dice).toBeCloseTo((0.7 + 0.4 + 0) / 3, 12);
    expect(document.mean['1']!.assd).toBeCloseTo(3, 12);
    expect(document.mean['all']!.assd).toBeCloseTo((2 + 5) / 2, 12);
    expect(document.excluded['1']!.dice).toEqual({ undefined: 1, infinite: 0 });
    expect(document.excluded['1']!.assd).toEqual({ undefined: 1, infinite: 1 });
    expect(document.excluded['all']!.assd).toEqual({ undefined: 1, infinite: 1 });
    expect(document.classes).toEqual({ '1': 'Anterior' });
    const [low, high] = document.ci95['all']!.dice!;
    expect(low).toBeLessThan(document.mean['all']!.dice!);
    expect(high).toBeGreaterThan(document.mean['all']!.dice!);
  });

  it('has null and "empty" in its JSON, never NaN or Infinity', async () => {
    const document = await summarise(cases({ a: [MISSED, NOTHING], ['__proto__']: [of(1, 0), NOTHING] }), LABELS);
    const parsed = JSON.parse(JSON.stringify(document)) as typeof document;
    expect(parsed.cases['a']!['1']).toEqual({
      dice: 0,
      jaccard: 0,
      hd95_monai: null,
      hd95_medpy: null,
      asd: null,
      assd_pooled: null,
      assd_mean: null,
      assd: null,
      empty: 'pred',
    });
    expect(parsed.cases['a']!['2']).toMatchObject({ dice: null, empty: 'both' });
    expect(parsed.mean['2']!.dice).toBeNull();
    expect(parsed.ci95['2']!.dice).toBeNull();
  });

  it('pairs the difference case by case and class by class', async () => {
    const ours = cases({
      a: [of(0.9, 1), of(0.8, 2)],
      b: [of(0.7, 2), MISSED],
      c: [of(0.8, 1.5), NOTHING],
      only: [of(1, 0), of(1, 0)],
    });
    const theirs = cases({
      b: [of(0.5, 3), of(0.5, 9)],
      c: [of(0.65, 2.75), NOTHING],
      a: [of(0.8, 2), of(0.6, 4)],
    });
    const { cases: count, mean, ci95, noInterval } = await pairedDifference(ours, theirs, LABELS);
    expect(count).toBe(3);
    expect(noInterval).toBeUndefined();
    expect(mean['1']!.dice).toBeCloseTo((0.1 + 0.2 + 0.15) / 3, 12);
    expect(mean['2']!.assd).toBeCloseTo(-2, 12);
    // b's second class has no finite distance on our side: its first class alone counts there.
    expect(mean['all']!.assd).toBeCloseTo((-1.5 + -1 - 1.25) / 3, 12);
    // One finite value of the second class: a mean, and no interval.
    expect(ci95['2']!.assd).toBeNull();
    expect(ci95['1']!.dice![0]).toBeCloseTo(0.1, 12);
    expect(ci95['1']!.dice![1]).toBeCloseTo(0.2, 12);
    await expect(pairedDifference(ours, cases({ x: [MISSED, MISSED] }), LABELS)).rejects.toMatchObject({
      code: 'dataset',
    });
  });

  it('does not depend on the order of cases', async () => {
    const a: [ClassMetrics, ClassMetrics] = [of(0.9, 1), of(0.8, 2)];
    const b: [ClassMetrics, ClassMetrics] = [of(0.7, 2), of(0.1, 7)];
    const c: [ClassMetrics, ClassMetrics] = [of(0.4, 2), of(0.3, 5)];
    const one = await summarise(cases({ a, b, c }), LABELS);
    const two = await summarise(cases({ c, a, b }), LABELS);
    expect(two.ci95).toEqual(one.ci95);
  });

  it('refuses no cases and a class without metrics', async () => {
    await expect(summarise(new Map(), LABELS)).rejects.toMatchObject({ code: 'dataset' });
    await expect(summarise(new Map([['a', new Map([[1, of(1, 0)]])]]), LABELS)).rejects.toThrow(/a: class 2/);
  });

  it('has intervals from three cases on, and says why before', async () => {
    const some: [ClassMetrics, ClassMetrics] = [of(0.9, 1), of(0.8, 2)];
    const other: [ClassMetrics, ClassMetrics] = [of(0.7, 2), of(0.1, 7)];
    const fewer: Record<string, [ClassMetrics, ClassMetrics]>[] = [{ a: some }, { a: some, b: other }];
    for (const few of fewer) {
      const document = await summarise(cases(few), LABELS);
      expect(document.noInterval).toMatch(/^[12] cases? says? nothing/);
      expect(new Set(Object.values(document.ci95).flatMap((row) => Object.values(row)))).toEqual(new Set([null]));
    }
    const three = await summarise(cases({ a: some, b: other, c: some }), LABELS);
    expect(three.noInterval).toBeUndefined();
    expect(evaluationTable(three)).toContain('3 cases, mean [95% interval]');
    expect(evaluationTable(three)).toMatch(/1 Anterior +0\.833 \[0\.700, 0\.900\]/);
  });

  it('shows the ten worst cases and counts the others; the CSV has all', async () => {
    const many = Object.fromEntries(
      Array.from({ length: 13 }, (_, n) => [`c${n}`, [of(n / 100, n), NOTHING] as [ClassMetrics, ClassMetrics]]),
    );
    const document = await summarise(cases({ ...many, 'a "b", c': [NOTHING, NOTHING] }), LABELS);
    const lines = evaluationTable(document).split('\n');
    expect(lines.slice(-11).map((line) => line.split(/ {2,}/)[0])).toEqual([
      ...Array.from({ length: 10 }, (_, n) => `c${n}`),
      'and 4 more: --csv and --json have all',
    ]);
    const rows = evaluationCsv(document).split('\n');
    expect(rows[0]).toBe('case,class,name,dice,jaccard,hd95_monai,hd95_medpy,asd,assd_pooled,assd_mean,assd,empty');
    expect(rows).toHaveLength(1 + 14 * 2);
    expect(rows[1]).toBe('c0,1,Anterior,0,0,0,0,0,0,0,0,');
    expect(rows.at(-1)).toBe('"a ""b"", c",2,,,,,,,,,,both');
  });

  it('prints a table', async () => {
    const ours = cases({ a: [of(0.9, 1), of(0.8, 2)], b: [of(0.7, 2), MISSED] });
    const theirs = cases({ a: [of(0.8, 2), of(0.6, 4)], b: [of(0.5, 3), of(0.5, 9)] });
    const text = evaluationTable(await summarise(ours, LABELS, { against: theirs }));
    expect(text).toContain('2 cases, mean; no interval: 2 cases say nothing of how cases differ, 3 are the least');
    expect(text).toMatch(/1 Anterior +0\.800 +0\./);
    expect(text).toContain('ASSD pooled (mm)');
    expect(text).not.toContain('ASSD (mm)');
    expect(text).toContain('2: 1 with one mask empty');
    expect(text).toMatch(/1 Anterior +\+0\.150 +\+/);
    // The worst case first; its second class is missed.
    expect(
      text
        .split('\n')
        .slice(-3)
        .map((line) => line.split(/ {2,}/).slice(0, 2)),
    ).toEqual([
      ['case, worst first', 'Dice'],
      ['b', '0.350'],
      ['a', '0.850'],
    ]);
  });
});
