/** Learning rates by step, against their formulas. */
import { describe, expect, it } from 'vitest';
import { resolveConfig } from '../../src/config/index.js';
import { learningRate, type Schedule } from '../../src/train/schedule.js';

const cosine: Schedule = { name: 'cosine', lr: 2e-3, lrFinal: 2e-5, steps: 100 };

describe('learning rate', () => {
  it('of a cosine goes from lr towards lrFinal', () => {
    expect(learningRate(cosine, 0)).toBe(2e-3);
    expect(learningRate(cosine, 50)).toBeCloseTo((2e-3 + 2e-5) / 2, 12);
    expect(learningRate(cosine, 99)).toBeCloseTo(2e-5 + 0.5 * 1.98e-3 * (1 + Math.cos(0.99 * Math.PI)), 12);
  });

  it.each(['cosine', 'cosine-floor', 'constant'] as const)(
    'of %s rises evenly over the warm-up, then begins at lr',
    (name) => {
      const s: Schedule = { ...cosine, name, warmup: 0.1 };
      for (let t = 0; t < 10; t++) expect(learningRate(s, t)).toBeCloseTo((2e-3 * (t + 1)) / 10, 12);
      expect(learningRate(s, 10)).toBe(2e-3);
      // Half of what is left.
      const half = { cosine: (2e-3 + 2e-5) / 2, 'cosine-floor': 1e-3, constant: 2e-3 }[name];
      expect(learningRate(s, 55)).toBeCloseTo(half, 12);
    },
  );

  it('without a warm-up, or with one of no step, is as before', () => {
    for (const warmup of [undefined, 0, 0.004])
      for (const t of [0, 1, 77]) expect(learningRate({ ...cosine, warmup }, t)).toBe(learningRate(cosine, t));
  });

  it('has no warm-up by default, and one from 0 to 1 where it is given', () => {
    const of = (optimizer: object) => resolveConfig({ task: 'pretrain', optimizer }).optimizer.warmup;
    expect([of({}), of({ warmup: 0.05 })]).toEqual([0, 0.05]);
    expect(() => of({ warmup: 1.5 })).toThrow(/optimizer\.warmup: expected at most 1/);
  });
});
