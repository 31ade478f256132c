/**
 * The k-th smallest of a volume's voxels, exactly, without sorting or copying them: two counts over the halves of an
 * order-preserving key of the float32 value. Pure arrays.
 */
import { type Breather } from '../../breathe.js';
import { type VoxelArray } from '../../volume.js';

const BLOCK = 1 << 14;
const HALF = 1 << 16;

/**
 * The values at some ranks (0 is the least) among the voxels that are not zero, or among all where all are zero, rounded
 * to float32. `ranksOf` gets the number of voxels that count. Voxels have to be finite in float32.
 */
export async function orderStatistics(
  values: VoxelArray,
  ranksOf: (count: number) => readonly number[],
  breath: Breather,
): Promise<number[]> {
  const floats = new Float32Array(BLOCK);
  const bits = new Int32Array(floats.buffer);
  /** Calls `take` with blocks of keys, 0 … 2^32 − 1 in the order of the values, of the voxels that are not zero. */
  const scan = async (take: (keys: Uint32Array, count: number) => void): Promise<void> => {
    const keys = new Uint32Array(BLOCK);
    for (let start = 0; start < values.length; start += BLOCK) {
      const end = Math.min(start + BLOCK, values.length);
      let count = 0;
      for (let i = start; i < end; i++) if (values[i] !== 0) floats[count++] = values[i]!;
      // Negative numbers are in the reverse order of their bits, and before the positive ones.
      for (let i = 0; i < count; i++) keys[i] = bits[i]! ^ ((bits[i]! >> 31) | 0x80000000);
      take(keys, count);
      if (breath.due()) await breath.breathe();
    }
  };
  const upper = new Float64Array(HALF);
  let total = 0;
  await scan((keys, count) => {
    total += count;
    for (let i = 0; i < count; i++) upper[keys[i]! >>> 16]!++;
  });
  if (total === 0) return ranksOf(values.length).map(() => 0);
  const wanted = ranksOf(total).map((rank) => placeOf(upper, rank));
  const lower = new Map(wanted.map(({ bin }) => [bin, new Float64Array(HALF)]));
  await scan((keys, count) => {
    for (let i = 0; i < count; i++) {
      const found = lower.get(keys[i]! >>> 16);
      if (found) found[keys[i]! & 0xffff]!++;
    }
  });
  return wanted.map(({ bin, rest }) => {
    const key = ((bin << 16) | placeOf(lower.get(bin)!, rest).bin) >>> 0;
    bits[0] = key ^ (~(key >> 31) | 0x80000000);
    return floats[0]!;
  });
}

/** The bin that holds the voxel of a rank, and its rank within the bin. */
function placeOf(counts: Float64Array, rank: number): { bin: number; rest: number } {
  let rest = rank;
  for (let bin = 0; bin < counts.length; bin++) {
    if (rest < counts[bin]!) return { bin, rest };
    rest -= counts[bin]!;
  }
  return { bin: counts.length - 1, rest: 0 };
}
