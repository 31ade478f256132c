import { describe, expect, it } from 'vitest';
import { centres, nearChance, positiveShare, slicePositions } from '../../src/config/positives.js';
import { planPretrain, type Triple } from '../../src/config/index.js';
import { fingerprintOf } from './fingerprints.js';

/** All pairs, one by one. */
function bruteForce(shapes: readonly Triple[], patch: Triple, threshold: number): number {
  let near = 0;
  let all = 0;
  for (const p of shapes)
    for (const q of shapes) {
      let product = 1;
      for (const axis of [0, 1, 2] as const) {
        const [a, b] = [centres(p[axis], patch[axis]), centres(q[axis], patch[axis])];
        let hits = 0;
        for (const x of a) for (const y of b) if (Math.abs(x - y) < threshold) hits++;
        product *= hits / (a.length * b.length);
      }
      near += product;
      all++;
    }
  return near / all;
}

describe('the share of positive pairs', () => {
  it('is that of all pairs, one by one', () => {
    const shapes: Triple[] = [
      [35, 50, 35],
      [31, 44, 40],
      [35, 50, 35],
      [40, 58, 33],
    ];
    for (const patch of [
      [16, 32, 32],
      [32, 32, 16],
      [24, 24, 24],
    ] as Triple[]) {
      const share = positiveShare(shapes, { dims: 3, patch, position: 'centre', threshold: 0.1 });
      expect(share).toBeCloseTo(bruteForce(shapes, patch, 0.1), 12);
    }
  });
  it('is 1 where a patch holds every case, and 0 where a threshold of nothing tells all apart', () => {
    const shapes: Triple[] = [
      [35, 50, 35],
      [31, 44, 40],
    ];
    expect(positiveShare(shapes, { dims: 3, patch: [48, 64, 48], position: 'centre', threshold: 0.1 })).toBe(1);
    const none = positiveShare([[100, 100, 100]], {
      dims: 3,
      patch: [10, 10, 10],
      position: 'centre',
      threshold: 1e-12,
    });
    expect(none).toBeCloseTo(91 ** -3, 12);
  });
  it('takes a threshold an axis', () => {
    const shapes: Triple[] = [[64, 64, 64]];
    const open = { dims: 3, patch: [16, 16, 16], position: 'centre', threshold: [2, 2, 0.1] } as const;
    const one = nearChance(centres(64, 16), centres(64, 16), 0.1);
    expect(positiveShare(shapes, open)).toBeCloseTo(one, 12);
  });
  it("of a patch's place along D alone, in 3-D: its centre", () => {
    const plan = { dims: 3, position: 'slice', threshold: 0.1 } as const;
    // Nowhere to move along D: every pair is a positive.
    expect(positiveShare([[32, 64, 64]], { ...plan, patch: [32, 16, 16] })).toBe(1);
    const share = positiveShare([[64, 50, 50]], { ...plan, patch: [16, 16, 16] });
    expect(share).toBeCloseTo(nearChance(centres(64, 16), centres(64, 16), 0.1), 12);
    const given = { model: { dims: 3, levels: 2 }, data: { patch: [32, 16, 16] }, loss: { threshold: [0.1] } } as const;
    const cases = fingerprintOf([[32, 64, 64]]);
    expect(() => planPretrain(cases, { task: 'pretrain', ...given })).toThrow(/every pair of samples is a positive/);
  });
  it('of slices: i of n is at (i + 1) / n', () => {
    expect(slicePositions(4)).toEqual([0.25, 0.5, 0.75, 1]);
    // 0.25 apart is not less than 0.25: only the slice itself.
    expect(positiveShare([[4, 9, 9]], { dims: 2, patch: [1, 8, 8], position: 'slice', threshold: 0.25 })).toBeCloseTo(
      0.25,
      12,
    );
    // Itself and its neighbours: (2 + 3 + 3 + 2) / 16.
    expect(positiveShare([[4, 9, 9]], { dims: 2, patch: [1, 8, 8], position: 'slice', threshold: 0.3 })).toBeCloseTo(
      10 / 16,
      12,
    );
  });
});
