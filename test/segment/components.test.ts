/** The largest connected part of each class, held against a flood fill voxel by voxel. */
import { describe, expect, it } from 'vitest';
import { Breather } from '../../src/breathe.js';
import { Draws } from '../../src/philox.js';
import type { Triple } from '../../src/volume.js';
import { keepLargestComponents } from '../../src/segment/components.js';

/** The same by definition: 26 neighbours, the first of equal sizes in the order of voxels. */
function byFlood(labels: Uint8Array, [depth, height, width]: Triple, classes: number): Uint8Array {
  const part = new Int32Array(labels.length).fill(-1);
  const sizes: number[] = [];
  for (let seed = 0; seed < labels.length; seed++) {
    if (labels[seed] === 0 || part[seed]! >= 0) continue;
    const id = sizes.push(0) - 1;
    const open = [seed];
    part[seed] = id;
    while (open.length > 0) {
      const v = open.pop()!;
      sizes[id]!++;
      const [d, h, w] = [Math.floor(v / (height * width)), Math.floor(v / width) % height, v % width];
      for (let a = Math.max(0, d - 1); a <= Math.min(depth - 1, d + 1); a++)
        for (let b = Math.max(0, h - 1); b <= Math.min(height - 1, h + 1); b++)
          for (let c = Math.max(0, w - 1); c <= Math.min(width - 1, w + 1); c++) {
            const n = (a * height + b) * width + c;
            if (part[n]! >= 0 || labels[n] !== labels[v]) continue;
            part[n] = id;
            open.push(n);
          }
    }
  }
  const best = new Int32Array(classes).fill(-1);
  for (let v = 0; v < labels.length; v++)
    if (labels[v] !== 0 && (best[labels[v]!]! < 0 || sizes[part[v]!]! > sizes[best[labels[v]!]!]!))
      best[labels[v]!] = part[v]!;
  return labels.map((label, v) => (label !== 0 && best[label] === part[v] ? label : 0));
}

describe('the largest part of each class', () => {
  it.each<[Triple, number, number]>([
    [[1, 1, 1], 2, 0.5],
    [[1, 9, 11], 3, 0.4],
    [[7, 6, 9], 2, 0.12],
    [[7, 6, 9], 3, 0.3],
    [[5, 8, 1], 3, 0.4],
    [[9, 10, 12], 4, 0.25],
    [[4, 4, 30], 5, 0.8],
  ])('of %j with %i classes at density %f is that of a flood fill', async (shape, classes, density) => {
    for (let seed = 0; seed < 20; seed++) {
      const draws = new Draws(seed, 0, 0, 0);
      const length = shape[0] * shape[1] * shape[2];
      const labels = Uint8Array.from({ length }, () => (draws.uniform() < density ? 1 + draws.int(classes - 1) : 0));
      const expected = byFlood(labels, shape, classes);
      const found = labels.slice();
      const removed = await keepLargestComponents(found, shape, classes, new Breather());
      expect(found).toEqual(expected);
      expect(removed).toBe(labels.filter((v, i) => v !== expected[i]).length);
    }
  });

  it('leaves nothing and everything as they are', async () => {
    for (const value of [0, 1]) {
      const labels = new Uint8Array(60).fill(value);
      expect(await keepLargestComponents(labels, [3, 4, 5], 2, new Breather())).toBe(0);
      expect(labels).toEqual(new Uint8Array(60).fill(value));
    }
  });
});
