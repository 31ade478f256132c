import { describe, expect, it } from 'vitest';
import { bootstrapIntervals, finiteMean } from '../../src/segment/bootstrap.js';
import { pairedDifference, summarise } from '../../src/segment/evaluate.js';
import { evaluationTable } from '../../src/segment/evaluate-table.js';
import { type CaseMetrics, type ClassMetrics, type EmptyMask } from '../../src/segment/metrics.js';

function of(dice: number, distance: number, empty?: EmptyMask): ClassMetrics {
  return {
    dice,
    jaccard: dice / (2 - dice),
    hd95_monai: distance,
    hd95_medpy: distance,
    asd: distance,
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
      assd: null,
      empty: 'pred',
    });
    expect(parsed.cases['a']!['2']).toMatchObject({ dice: null, empty: 'both' });
    expect(parsed.mean['2']!.dice).toBeNull();
    expect(parsed.ci95['2']!.dice).toBeNull();
  });

  it('pairs the difference case by case and class by class', async () => {
    const ours = cases({ a: [of(0.9, 1), of(0.8, 2)], b: [of(0.7, 2), MISSED], only: [of(1, 0), of(1, 0)] });
    const theirs = cases({ b: [of(0.5, 3), of(0.5, 9)], a: [of(0.8, 2), of(0.6, 4)] });
    const { cases: count, mean, ci95 } = await pairedDifference(ours, theirs, LABELS);
    expect(count).toBe(2);
    expect(mean['1']!.dice).toBeCloseTo((0.1 + 0.2) / 2, 12);
    expect(mean['2']!.assd).toBeCloseTo(-2, 12);
    // b's second class has no finite distance on our side: its first class alone counts there.
    expect(mean['all']!.assd).toBeCloseTo((-1.5 + -1) / 2, 12);
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

  it('prints a table', async () => {
    const ours = cases({ a: [of(0.9, 1), of(0.8, 2)], b: [of(0.7, 2), MISSED] });
    const theirs = cases({ a: [of(0.8, 2), of(0.6, 4)], b: [of(0.5, 3), of(0.5, 9)] });
    const text = evaluationTable(await summarise(ours, LABELS, { against: theirs }));
    expect(text).toContain('2 cases, mean [95% interval]');
    expect(text).toMatch(/1 Anterior +0\.800 \[0\.700, 0\.900\]/);
    expect(text).toContain('2: 1 with one mask empty');
    expect(text).toMatch(/1 Anterior +\+0\.150 \[\+0\.100, \+0\.200\]/);
  });
});
