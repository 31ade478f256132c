import { describe, expect, it } from 'vitest';
import { resolveConfig } from '../../src/config/index.js';
import type { FinetuneConfig, PretrainConfig } from '../../src/settings/types.js';
import { applyAffine, boxOf, patchAffine, relativeTo } from '../../src/data/sampling/affine.js';
import {
  positionOf,
  samplerFor as samplerOf,
  type SamplerCase,
  type SamplerOptions,
} from '../../src/data/sampling/sampler.js';
import { methodOf } from '../../src/methods/index.js';
import type { WarpParams } from '../../src/ops/warp3d.js';
import { distinctShapes, positiveShare } from '../../src/config/positives.js';

/** Samples as the configuration's own method wants them, each view's warp by its name. */
function samplerFor(config: PretrainConfig | FinetuneConfig, of: readonly SamplerCase[], options?: SamplerOptions) {
  const method = methodOf(config);
  const views = method.views(config);
  const sampler = samplerOf(config, { ...method, views }, of, options);
  return {
    draw: (step: number) =>
      sampler.draw(step).map(({ patches, position, warps }) => ({
        caseIndex: patches[0]!.caseIndex,
        position,
        views: Object.fromEntries(
          views.map((view) => [view.name, warps.get(view.kind === 'same' ? view.of : view.name)!.warp]),
        ) as Record<'i1' | 'i2' | 'v1' | 'v2' | 'x' | 'y', WarpParams>,
      })),
  };
}

const cases: SamplerCase[] = [
  { shape: [35, 50, 35], spacingMm: [1, 1, 1] },
  { shape: [30, 44, 41], spacingMm: [1, 1, 1] },
  { shape: [12, 60, 33], spacingMm: [1, 1, 1] },
];
const model = { dims: 3, inChannels: 1, filters: 4, levels: 2, decoderBlocks: 1 } as const;
const pretrain = (value: object = {}) =>
  resolveConfig({
    task: 'pretrain',
    model,
    data: { patch: [16, 32, 16] },
    train: { batch: 4, seed: 7 },
    ...value,
  }) as PretrainConfig;
const finetune = (value: object = {}) =>
  resolveConfig({
    task: 'finetune',
    model: { ...model, classes: 3 },
    data: { patch: [16, 32, 16] },
    train: { batch: 4, seed: 7 },
    ...value,
  }) as FinetuneConfig;
const still = {
  rotation: 0,
  scale: [1, 1],
  translation: 0,
  mirror: false,
  intensity: { brightness: 0, contrast: 0, noise: 0 },
};

describe('a draw', () => {
  it('is a function of seed and step alone', () => {
    const [a, b] = [samplerFor(pretrain(), cases), samplerFor(pretrain(), cases)];
    const later = b.draw(40);
    for (let step = 0; step < 40; step++) a.draw(step);
    expect(a.draw(40)).toEqual(later);
    expect(a.draw(41)).not.toEqual(later);
    expect(samplerFor(pretrain({ train: { batch: 4, seed: 8 } }), cases).draw(40)).not.toEqual(later);
  });
  it('takes every case once in an epoch, in another order in the next', () => {
    const many = Array.from({ length: 12 }, () => cases[0]!);
    const sampler = samplerFor(pretrain(), many);
    const epoch = (e: number) => [0, 1, 2].flatMap((s) => sampler.draw(3 * e + s).map((x) => x.caseIndex));
    expect([...epoch(0)].sort((a, b) => a - b)).toEqual(many.map((_, i) => i));
    expect([...epoch(1)].sort((a, b) => a - b)).toEqual(many.map((_, i) => i));
    expect(epoch(1)).not.toEqual(epoch(0));
  });
  it('one option does not change what another one draws', () => {
    const at = (augment: object) => samplerFor(pretrain({ augment }), cases).draw(3)[1]!;
    const [plain, mirrored] = [at({}), at({ mirror: true, intensity: { noise: 0.5 } })];
    expect(mirrored.position).toEqual(plain.position);
    expect(mirrored.views.v1.noiseSeed).toEqual(plain.views.v1.noiseSeed);
    expect(plain.views.v1.noiseSd).toBe(0);
    expect(mirrored.views.v1.noiseSd).toBeGreaterThan(0);
  });
  it('a mirror turns whole axes of the same view round about the same centre, one axis as the next, and nothing else', () => {
    const augment = { rotation: 20, scale: [0.8, 1.25], translation: 0.1, intensity: { contrast: 0.2 } };
    const views = (mirror: boolean) => {
      const sampler = samplerFor(pretrain({ augment: { ...augment, mirror } }), cases);
      return Array.from({ length: 25 }, (_, step) => sampler.draw(step)).flatMap((batch) =>
        batch.flatMap(({ views: { v1, v2 } }) => [v1, v2]),
      );
    };
    const [plain, mirrored] = [views(false), views(true)];
    const flips = [0, 0, 0];
    plain.forEach(({ affine, ...rest }, n) => {
      const { affine: turned, ...others } = mirrored[n]!;
      expect(others).toEqual(rest);
      const centre = [7.5, 15.5, 7.5] as const;
      const [at, there] = [applyAffine(affine, centre), applyAffine(turned, centre)];
      for (const axis of [0, 1, 2] as const) {
        expect(there[axis]).toBeCloseTo(at[axis], 6);
        // Columns of the linear part: where an axis of the patch points to.
        const column = (of: readonly number[]) => [0, 1, 2].map((row) => of[4 * row + axis]!);
        const sign = Math.sign(column(turned).reduce((sum, x, i) => sum + x * column(affine)[i]!, 0));
        column(turned).forEach((x, i) => expect(x).toBeCloseTo(sign * column(affine)[i]!, 9));
        if (sign < 0) flips[axis]!++;
      }
    });
    // 200 views, half of them on each axis: 5 deviations are 35.
    for (const count of flips) expect(Math.abs(count - 100)).toBeLessThan(36);
  });
});

describe('pre-training', () => {
  it('lays patches within volumes, and small volumes into the middle of the patch', () => {
    const sampler = samplerFor(pretrain(), cases);
    for (let step = 0; step < 30; step++) {
      for (const { caseIndex, views, position } of sampler.draw(step)) {
        const { shape } = cases[caseIndex]!;
        const first = applyAffine(views.i1.affine, [0, 0, 0]);
        const last = applyAffine(views.i1.affine, [15, 31, 15]);
        [16, 32, 16].forEach((size, axis) => {
          const [low, high, n] = [first[axis as 0], last[axis as 0], shape[axis as 0]];
          expect(Number.isInteger(low)).toBe(true);
          expect(high - low).toBe(size - 1);
          if (n >= size) {
            expect(low).toBeGreaterThanOrEqual(0);
            expect(high).toBeLessThanOrEqual(n - 1);
            expect(position[axis]).toBeCloseTo((low + size / 2) / n, 12);
          } else {
            expect(low).toBe(Math.floor((n - size) / 2));
            expect(position[axis]).toBe(0.5);
          }
        });
      }
    }
  });
  it('gives two views of the same centre, and two that are the patch itself', () => {
    const [sample] = samplerFor(
      pretrain({ augment: { ...still, rotation: 20, scale: [0.8, 1.25], mirror: true } }),
      cases,
    ).draw(0);
    const { i1, i2, v1, v2 } = sample!.views;
    const centre = [7.5, 15.5, 7.5] as const;
    for (const view of [v1, v2]) {
      applyAffine(view.affine, centre).forEach((x, axis) =>
        expect(x).toBeCloseTo(applyAffine(i1.affine, centre)[axis as 0], 9),
      );
    }
    expect(v1.affine).not.toEqual(v2.affine);
    expect(i1).toMatchObject({ affine: i2.affine, gain: 1, bias: 0, noiseSd: 0 });
  });
  it('changes intensities of i1 and i2 only where that is asked for', () => {
    const views = (nonSpatial: string) =>
      samplerFor(
        pretrain({ augment: { nonSpatial, intensity: { brightness: 0.3, contrast: 0.2, noise: 0.1 } } }),
        cases,
      ).draw(2)[0]!.views;
    const identity = views('identity');
    expect(identity.i1).toMatchObject({ gain: 1, bias: 0 });
    expect(identity.v1.gain).not.toBe(1);
    const changed = views('brightness+contrast');
    expect(changed.i1.gain).not.toBe(changed.i2.gain);
    expect(Math.abs(changed.i1.bias)).toBeLessThanOrEqual(0.3);
    expect(changed.i1.noiseSd).toBe(0);
    expect(changed.v1).toEqual(identity.v1);
  });
  it('changes those of the spatial views or not: the released code does not', () => {
    const views = (augment: object, more: object = {}) => {
      const config = pretrain({ augment, ...more });
      return samplerFor(config, cases).draw(2)[0]!.views;
    };
    const intensity = { brightness: 0.3, contrast: 0.2, noise: 0.1 };
    const [all, code] = [
      views({ nonSpatial: 'brightness+contrast', intensity }),
      views({ nonSpatial: 'code', intensity }),
    ];
    expect([code.i1, code.i2]).toEqual([all.i1, all.i2]);
    expect(code.v1).toEqual({ ...all.v1, gain: 1, bias: 0 });
    expect(code.v2).toEqual({ ...all.v2, gain: 1, bias: 0 });
    const flat = { model: { ...model, dims: 2 }, data: { patch: [1, 32, 32] } };
    const preset = views({}, { ...flat, preset: 'code-2d' });
    for (const v of [preset.v1, preset.v2]) expect(v).toMatchObject({ gain: 1, bias: 0, noiseSd: 0 });
    for (const i of [preset.i1, preset.i2]) expect([i.gain, i.bias]).not.toEqual([1, 0]);
  });
  it.each(['centre', 'slice'] as const)('meets the share of positive pairs that is foretold, by %s', (position) => {
    const threshold = 0.1;
    const config = pretrain({ data: { patch: [16, 32, 16], position }, train: { batch: 64, seed: 3 } });
    const sampler = samplerFor(config, cases);
    const shapes = cases.map((c) => c.shape);
    let near = 0;
    let all = 0;
    for (let step = 0; step < 30; step++) {
      // Samples of different batches are independent.
      const [a, b] = [sampler.draw(2 * step), sampler.draw(2 * step + 1)];
      for (const p of a)
        for (const q of b) {
          if (p.position.every((x, axis) => Math.abs(x - q.position[axis]!) < threshold)) near++;
          all++;
        }
    }
    const told = positiveShare(shapes, { dims: 3, patch: [16, 32, 16], position, threshold });
    expect(distinctShapes(shapes)).toHaveLength(3);
    expect(Math.abs(near / all - told)).toBeLessThan(0.02);
  });
});

describe('2-D', () => {
  const flat = (value: object = {}) =>
    pretrain({
      model: { ...model, dims: 2 },
      data: { patch: [1, 32, 32] },
      augment: { rotation: 180, translation: 0.1, mirror: true },
      ...value,
    });
  it('slice i of n has position (i + 1) / n, and stays the slice under every change', () => {
    const sampler = samplerFor(flat(), cases);
    const seen = new Set<number>();
    for (let step = 0; step < 60; step++) {
      for (const { caseIndex, position, views } of sampler.draw(step)) {
        const n = cases[caseIndex]!.shape[0];
        const i = views.i1.affine[3]!;
        expect(position).toEqual([(i + 1) / n]);
        seen.add(i);
        for (const point of [
          [0, 0, 0],
          [0, 31, 5],
        ] as const) {
          expect(applyAffine(views.v1.affine, point)[0]).toBeCloseTo(i, 9);
          expect(applyAffine(views.v2.affine, point)[0]).toBeCloseTo(i, 9);
        }
      }
    }
    expect(seen.size).toBeGreaterThan(25);
    expect(Math.min(...seen)).toBe(0);
  });
  it('position can be the centre', () => {
    expect(positionOf([3, 4, 0], [1, 32, 32], [10, 40, 30], 'centre', 2)).toEqual([0.35, 0.5, 0.5]);
    expect(positionOf([3, 4, 0], [1, 32, 32], [10, 40, 30], 'slice', 2)).toEqual([0.4]);
  });
});

describe('fine-tuning', () => {
  it('moves the label exactly as the image, with nothing else', () => {
    for (const {
      views: { x, y },
    } of samplerFor(finetune({ augment: { intensity: { brightness: 1, contrast: 0.5, noise: 1 } } }), cases).draw(5)) {
      expect(y).toEqual({ affine: x.affine, gain: 1, bias: 0, noiseSd: 0, noiseSeed: [0, 0], fill: 0 });
      expect(x.gain).not.toBe(1);
    }
  });
  it('centres a share of patches on foreground, within the volume', () => {
    const voxel = [34, 25, 3] as const;
    const big = [{ shape: [60, 60, 60], spacingMm: [1, 1, 1] }] as SamplerCase[];
    const config = (foreground: number) =>
      finetune({ data: { patch: [16, 32, 16], foreground }, augment: still, train: { batch: 50, seed: 1 } });
    const starts = (share: number) =>
      [0, 1, 2, 3]
        .flatMap((step) => samplerFor(config(share), big, { foreground: () => voxel }).draw(step))
        .map(({ views: { x } }) => [x.affine[3], x.affine[7], x.affine[11]].join());
    const centred = '26,9,0';
    expect(starts(1).every((s) => s === centred)).toBe(true);
    const third = starts(0.33).filter((s) => s === centred).length / 200;
    expect(third).toBeGreaterThan(0.2);
    expect(third).toBeLessThan(0.46);
    expect(starts(0).filter((s) => s === centred)).toHaveLength(0);
  });
  it('goes anywhere where a case has no foreground', () => {
    const draws = (foreground: number, voxel: readonly [number, number, number] | null) => {
      const config = finetune({ data: { patch: [16, 32, 16], foreground }, augment: still });
      const sampler = samplerFor(config, cases, { foreground: () => voxel });
      return Array.from({ length: 30 }, (_, step) => sampler.draw(step)).flat();
    };
    const found = draws(1, null);
    expect(found).toEqual(draws(0, null));
    expect(found).not.toEqual(draws(1, [5, 5, 5]));
    const starts = found
      .filter(({ caseIndex }) => caseIndex === 0)
      .map(({ views: { x } }) => [x.affine[3]!, x.affine[7]!, x.affine[11]!]);
    [35 - 16, 50 - 32, 35 - 16].forEach((room, axis) => {
      const along = starts.map((start) => start[axis]!);
      expect(Math.min(...along)).toBeGreaterThanOrEqual(0);
      expect(Math.max(...along)).toBeLessThanOrEqual(room);
      expect(Math.max(...along) - Math.min(...along)).toBeGreaterThan(room / 2);
    });
  });
});

describe('affines', () => {
  const change = (value: object) =>
    ({ rotation: [0, 0, 0], scale: 1, mirror: [false, false, false], shift: [0, 0, 0], ...value }) as const;
  it('without change are a shift', () => {
    const affine = patchAffine([4, 6, 8], [1, -2, 3], [1, 1, 1], change({}));
    expect(affine).toEqual([1, 0, 0, 1, 0, 1, 0, -2, 0, 0, 1, 3]);
  });
  it('turn about D from H to W, in millimetres', () => {
    // 3 voxels of 2 mm along H are 6 mm, which are 12 voxels of 0.5 mm along W.
    const affine = patchAffine([1, 7, 7], [0, 0, 0], [5, 2, 0.5], change({ rotation: [Math.PI / 2, 0, 0] }));
    const at = applyAffine(affine, [0, 6, 3]);
    expect(at[0]).toBeCloseTo(0, 12);
    expect(at[1]).toBeCloseTo(3, 12);
    expect(at[2]).toBeCloseTo(3 + 12, 12);
  });
  it('keep lengths and volume in every turn', () => {
    const spacing = [3, 1, 0.7] as const;
    const affine = patchAffine([5, 5, 5], [0, 0, 0], spacing, change({ rotation: [0.3, -0.8, 1.2] }));
    const mm = (p: readonly number[], q: readonly number[]) =>
      Math.hypot(...p.map((x, i) => (x - q[i]!) * spacing[i as 0]));
    const points = [[0, 0, 0], [4, 1, 2], [3, 4, 0]] as const; // prettier-ignore
    for (const p of points)
      for (const q of points) expect(mm(applyAffine(affine, p), applyAffine(affine, q))).toBeCloseTo(mm(p, q), 9);
  });
  it('a scale above 1 makes things larger, a mirror turns an axis round, a shift moves the centre', () => {
    const twice = patchAffine([5, 5, 5], [0, 0, 0], [1, 1, 1], change({ scale: 2 }));
    expect(applyAffine(twice, [4, 2, 2])).toEqual([3, 2, 2]);
    const mirrored = patchAffine([5, 5, 5], [0, 0, 0], [1, 1, 1], change({ mirror: [false, false, true] }));
    expect(applyAffine(mirrored, [1, 2, 0])).toEqual([1, 2, 4]);
    const moved = patchAffine([5, 5, 5], [10, 10, 10], [1, 1, 1], change({ shift: [0.5, 0, -2] }));
    expect(applyAffine(moved, [0, 0, 0])).toEqual([10.5, 10, 8]);
  });
  it('know the box that they read', () => {
    const affine = patchAffine([4, 6, 8], [2, 3, -5], [1, 1, 1], change({}));
    expect(boxOf(affine, [4, 6, 8], [20, 20, 20], 1)).toEqual({ start: [1, 2, 0], shape: [6, 8, 4] });
    expect(boxOf(affine, [4, 6, 8], [5, 20, 20], 2)).toEqual({ start: [0, 1, 0], shape: [5, 10, 5] });
    const outside = patchAffine([4, 4, 4], [50, 0, -50], [1, 1, 1], change({}));
    const box = boxOf(outside, [4, 4, 4], [20, 20, 20], 1);
    expect(box.start[0]).toBe(19);
    expect(box.shape.every((n) => n >= 1)).toBe(true);
    const here = relativeTo(affine, [1, 2, 0]);
    expect(applyAffine(here, [0, 0, 5])).toEqual([1, 1, 0]);
  });
});
