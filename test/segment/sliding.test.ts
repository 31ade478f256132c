import { describe, expect, it } from 'vitest';
import { type Triple } from '../../src/volume.js';
import { axisWeights, gaussianAxis } from '../../src/segment/gaussian.js';
import {
  mirrorSets,
  predictVolume,
  predictVolumeBytes,
  type PredictVolumeOptions,
  SlabAccumulator,
  spacingMap,
  tileStarts,
} from '../../src/segment/sliding.js';

/** A field of logits over all space, as a function of voxel and class. */
type Field = (d: number, h: number, w: number, k: number) => number;

/** What a network that computes `field` gives for a tile, mirrored as asked. */
function tileOf(field: Field, tile: Triple, classes: number): PredictVolumeOptions['runTile'] {
  return (start, mirrored) => {
    const out = new Float32Array(tile[0] * tile[1] * tile[2] * classes);
    let at = 0;
    for (let d = 0; d < tile[0]; d++) {
      for (let h = 0; h < tile[1]; h++) {
        for (let w = 0; w < tile[2]; w++) {
          const [fd, fh, fw] = [d, h, w].map((n, axis) => (mirrored.includes(axis) ? tile[axis]! - 1 - n : n));
          for (let k = 0; k < classes; k++) out[at++] = field(start[0] + fd!, start[1] + fh!, start[2] + fw!, k);
        }
      }
    }
    return Promise.resolve(out);
  };
}

const WAVES: Field = (d, h, w, k) => Math.sin(d * 0.9 + k) + Math.cos(h * 0.7 - 2 * k) + Math.sin(w * 1.1 + k * k);

function argmax(field: Field, [depth, height, width]: Triple, classes: number): Uint8Array {
  const out = new Uint8Array(depth * height * width);
  let at = 0;
  for (let d = 0; d < depth; d++) {
    for (let h = 0; h < height; h++) {
      for (let w = 0; w < width; w++) {
        let best = 0;
        for (let k = 1; k < classes; k++) if (field(d, h, w, k) > field(d, h, w, best)) best = k;
        out[at++] = best;
      }
    }
  }
  return out;
}

describe('tiles', () => {
  it('step by half a tile and end flush', () => {
    expect(tileStarts(10, 4)).toEqual([0, 2, 4, 6]);
    expect(tileStarts(11, 4)).toEqual([0, 2, 4, 6, 7]);
    expect(tileStarts(4, 4)).toEqual([0]);
    expect(tileStarts(3, 8)).toEqual([-2]);
    expect(tileStarts(3, 1)).toEqual([0, 1, 2]);
    expect(tileStarts(9, 5)).toEqual([0, 2, 4]);
  });

  it('are mirrored in all combinations', () => {
    expect(mirrorSets([])).toEqual([[]]);
    expect(mirrorSets([0, 2])).toEqual([[], [0], [2], [0, 2]]);
  });

  it('weigh by a Gaussian with σ = tile / 8', () => {
    const weights = gaussianAxis(16);
    expect(weights[7]).toBe(weights[8]);
    expect(weights[4]! / weights[8]!).toBeCloseTo(Math.exp(-(3.5 ** 2 - 0.5 ** 2) / 8), 12);
    expect([...gaussianAxis(1)]).toEqual([1]);
  });

  it('have weights that add up to 1 on every voxel', () => {
    for (const [length, tile] of [
      [37, 16],
      [5, 9],
      [12, 5],
      [1, 1],
    ] as const) {
      const sums = new Float64Array(length);
      const starts = tileStarts(length, tile);
      axisWeights(starts, tile, length).forEach((weights, n) =>
        weights.forEach((weight, i) => {
          const at = starts[n]! + i;
          if (at >= 0 && at < length) sums[at]! += weight;
          else expect(weight).toBe(0);
        }),
      );
      sums.forEach((sum) => expect(sum).toBeCloseTo(1, 12));
    }
  });
});

describe('predictVolume', () => {
  const shape: Triple = [11, 9, 14];
  const tile: Triple = [4, 5, 8];
  const classes = 3;

  it('keeps a constant field, and gives its probabilities', async () => {
    const logits = [0.5, 2, -1];
    const sum = logits.reduce((total, value) => total + Math.exp(value), 0);
    const rows: number[] = [];
    let apart = 0;
    const labels = await predictVolume({
      shape,
      tile,
      classes,
      runTile: tileOf((_d, _h, _w, k) => logits[k]!, tile, classes),
      onProbabilities: (d, probabilities) => {
        rows.push(d);
        probabilities.forEach((value, i) => {
          apart = Math.max(apart, Math.abs(value - Math.exp(logits[i % classes]!) / sum));
        });
      },
    });
    expect(labels.length).toBe(11 * 9 * 14);
    expect(apart).toBeLessThan(1e-6);
    expect(labels.every((value) => value === 1)).toBe(true);
    expect(rows).toEqual(Array.from({ length: 11 }, (_, d) => d));
  });

  it.each([
    ['larger than the tile', shape, tile],
    ['smaller than the tile on every axis', [3, 4, 5] as Triple, [8, 8, 8] as Triple],
    ['smaller on one axis', [3, 9, 14] as Triple, tile],
    ['2-D', [1, 13, 12] as Triple, [1, 8, 8] as Triple],
  ])('gives back what tiles agree on: %s', async (_, size, tileSize) => {
    const labels = await predictVolume({
      shape: size,
      tile: tileSize,
      classes,
      runTile: tileOf(WAVES, tileSize, classes),
    });
    expect(labels).toEqual(argmax(WAVES, size, classes));
  });

  it('turns mirrored logits back', async () => {
    const seen = new Set<string>();
    const run = tileOf(WAVES, tile, classes);
    let done = 0;
    const labels = await predictVolume({
      shape,
      tile,
      classes,
      mirrorAxes: [0, 1, 2],
      runTile: (start, mirrored) => {
        seen.add([...mirrored].sort().join(''));
        return run(start, mirrored);
      },
      onProgress: (n, total) => {
        expect(n).toBe(++done);
        expect(total).toBe(5 * 3 * 3 * 8);
      },
    });
    expect(done).toBe(5 * 3 * 3 * 8);
    expect(seen.size).toBe(8);
    expect(labels).toEqual(argmax(WAVES, shape, classes));
  });

  it('averages mirrored runs equally', async () => {
    // The mirrored run says class 1 by more than the plain one says class 0.
    const one: Triple = [2, 2, 2];
    const say = (mirrored: readonly number[]): Float32Array =>
      Float32Array.from({ length: 16 }, (_, i) => (mirrored.length ? [0, 3] : [2, 0])[i % 2]!);
    const probabilities: number[] = [];
    await predictVolume({
      shape: one,
      tile: one,
      classes: 2,
      mirrorAxes: [1],
      runTile: (_, mirrored) => Promise.resolve(say(mirrored)),
      onProbabilities: (_, row) => void probabilities.push(row[1]!),
    });
    const wanted = Math.exp(1.5) / (Math.exp(1) + Math.exp(1.5));
    probabilities.forEach((value) => expect(value).toBeCloseTo(wanted, 6));
  });

  it('streamed equals the plain average over a whole volume', async () => {
    // Tiles that disagree: the logits depend on the tile.
    const noisy: PredictVolumeOptions['runTile'] = (start, mirrored) =>
      tileOf(
        (d, h, w, k) => WAVES(d, h, w, k) + Math.sin(start[0] * 5 + start[1] * 3 + start[2] + k),
        tile,
        classes,
      )(start, mirrored);
    const sums = new Float64Array(11 * 9 * 14 * classes);
    const weights = new Float64Array(11 * 9 * 14);
    const gaussians = tile.map(gaussianAxis);
    for (const d0 of tileStarts(11, 4)) {
      for (const h0 of tileStarts(9, 5)) {
        for (const w0 of tileStarts(14, 8)) {
          const logits = await noisy([d0, h0, w0], []);
          for (let i = 0; i < 4 * 5 * 8; i++) {
            const [d, h, w] = [Math.floor(i / 40), Math.floor(i / 8) % 5, i % 8];
            const weight = gaussians[0]![d]! * gaussians[1]![h]! * gaussians[2]![w]!;
            const at = ((d0 + d) * 9 + h0 + h) * 14 + w0 + w;
            weights[at]! += weight;
            for (let k = 0; k < classes; k++) sums[at * classes + k]! += weight * logits[i * classes + k]!;
          }
        }
      }
    }
    const accumulator = new SlabAccumulator(shape, tile, classes);
    let checked = 0;
    let apart = 0;
    for (const [n, d0] of tileStarts(11, 4).entries()) {
      for (const h0 of tileStarts(9, 5)) {
        for (const w0 of tileStarts(14, 8)) await accumulator.add([d0, h0, w0], await noisy([d0, h0, w0], []));
      }
      await accumulator.release(tileStarts(11, 4)[n + 1] ?? 11, (d, row) => {
        row.forEach((value, i) => {
          const at = d * 9 * 14 * classes + i;
          apart = Math.max(apart, Math.abs(value - sums[at]! / weights[Math.floor(at / classes)]!));
          checked++;
        });
      });
    }
    expect(checked).toBe(sums.length);
    expect(apart).toBeLessThan(2e-6);
  });

  it.each([
    ['finer', [17, 20, 23] as Triple],
    ['coarser', [5, 4, 6] as Triple],
    ['finer on H alone', [11, 25, 14] as Triple],
    ['finer on D alone', [19, 9, 14] as Triple],
  ])('interpolates averaged logits linearly: %s', async (_, outShape) => {
    const maps = outShape.map((n, axis) => spacingMap(shape[axis]!, n, 'edges')) as unknown as NonNullable<
      PredictVolumeOptions['mapOutToIn']
    >;
    const clamp = (n: number, axis: number): number => {
      const at = n * maps[axis]!.scale + maps[axis]!.offset;
      return Math.min(Math.max(at, 0), shape[axis]! - 1);
    };
    // Trilinear interpolation of the field's own values, written out over eight corners.
    const resampled: Field = (d, h, w, k) => {
      const at = [clamp(d, 0), clamp(h, 1), clamp(w, 2)];
      let sum = 0;
      for (let corner = 0; corner < 8; corner++) {
        let weight = 1;
        const voxel = at.map((position, axis) => {
          const low = Math.floor(position);
          const up = (corner >> axis) & 1;
          weight *= up ? position - low : 1 - (position - low);
          return Math.min(low + up, shape[axis]! - 1);
        });
        if (weight) sum += weight * WAVES(voxel[0]!, voxel[1]!, voxel[2]!, k);
      }
      return sum;
    };
    const found: number[] = [];
    const labels = await predictVolume({
      shape,
      tile,
      classes,
      outShape,
      mapOutToIn: maps,
      runTile: tileOf(WAVES, tile, classes),
      onProbabilities: (_, row) => void found.push(...row),
    });
    expect(labels).toEqual(argmax(resampled, outShape, classes));
    let at = 0;
    let apart = 0;
    for (let d = 0; d < outShape[0]; d++) {
      for (let h = 0; h < outShape[1]; h++) {
        for (let w = 0; w < outShape[2]; w++) {
          const logits = [0, 1, 2].map((k) => Math.exp(resampled(d, h, w, k)));
          const sum = logits.reduce((total, value) => total + value, 0);
          for (const value of logits) apart = Math.max(apart, Math.abs(found[at++]! - value / sum));
        }
      }
    }
    expect(at).toBe(found.length);
    expect(apart).toBeLessThan(1e-5);
  });

  it('asks for a tile while the one before is averaged, one at a time, and leaves none behind', async () => {
    const shape: Triple = [6, 9, 8];
    const tile: Triple = [4, 4, 4];
    const plain = tileOf(WAVES, tile, 3);
    const order: string[] = [];
    let running = 0;
    let most = 0;
    let asked = 0;
    // One array for all tiles, written anew while the tile before is averaged.
    const out = new Float32Array(4 * 4 * 4 * 3);
    const runTile: PredictVolumeOptions['runTile'] = async (start, mirrored) => {
      order.push(`asks ${asked}`);
      asked++;
      out.fill(NaN);
      most = Math.max(most, ++running);
      const logits = await plain(start, mirrored);
      await new Promise((resolve) => setImmediate(resolve));
      running--;
      out.set(logits);
      return out;
    };
    const options = { shape, tile, classes: 3, onProgress: (done: number) => order.push(`has ${done}`) };
    const labels = await predictVolume({ ...options, runTile });
    expect(labels).toEqual(await predictVolume({ shape, tile, classes: 3, runTile: plain }));
    expect(most).toBe(1);
    expect(order.slice(0, 4)).toEqual(['asks 0', 'asks 1', 'has 1', 'asks 2']);
    expect(order.at(-1)).toBe(`has ${asked}`);

    // An error elsewhere ends when the tile that was asked for has.
    const failing = () => {
      throw new Error('the caller is full');
    };
    await expect(predictVolume({ ...options, onProgress: failing, runTile })).rejects.toThrow('the caller is full');
    expect(running).toBe(0);
  });

  it('holds one tile of depth, whatever the volume is', () => {
    const small = new SlabAccumulator([40, 6, 7], [8, 8, 8], 3);
    const deep = new SlabAccumulator([4000, 6, 7], [8, 8, 8], 3);
    expect(small.allocatedBytes).toBe(8 * 6 * 7 * 3 * 4);
    expect(deep.allocatedBytes).toBe(small.allocatedBytes);
    expect(SlabAccumulator.bytes([4000, 6, 7], [8, 8, 8], 3)).toBe(deep.allocatedBytes);
    const whole = predictVolumeBytes({ shape: [400, 512, 512], tile: [96, 96, 96], classes: 8 });
    const volumeBytes = 400 * 512 * 512 * 4;
    expect(whole + volumeBytes).toBeLessThan(2 ** 31);
  });

  it('refuses what cannot be, and stops within a tile', async () => {
    const base: PredictVolumeOptions = { shape, tile, classes, runTile: tileOf(WAVES, tile, classes) };
    await expect(predictVolume({ ...base, outShape: [5, 5, 5] })).rejects.toMatchObject({ code: 'config' });
    await expect(predictVolume({ ...base, mirrorAxes: [3] })).rejects.toMatchObject({ code: 'config' });
    await expect(predictVolume({ ...base, classes: 0 })).rejects.toMatchObject({ code: 'config' });
    await expect(predictVolume({ ...base, runTile: () => Promise.resolve(new Float32Array(3)) })).rejects.toMatchObject(
      {
        code: 'state',
        details: { field: 'logits', found: 3 },
      },
    );
    const controller = new AbortController();
    let runs = 0;
    const stopped = predictVolume({
      ...base,
      signal: controller.signal,
      runTile: (start, mirrored) => {
        if (++runs === 3) controller.abort();
        return base.runTile(start, mirrored);
      },
    });
    await expect(stopped).rejects.toMatchObject({ code: 'aborted' });
    expect(runs).toBe(3);
  });
});
