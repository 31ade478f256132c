/**
 * Philox 4×32-10 (Salmon, Moraes, Dror, Shaw, "Parallel random numbers: as easy as 1, 2, 3", SC 2011): random numbers
 * as a function of a counter and a key, so that a run has no generator state to save. It is not for secrets.
 *
 * Layout, the same on every backend: key = (seed low, seed high); counter = (block, purpose, sample, step).
 */

/** What a stream of numbers is for. Values are part of what a seed means: never change one, only add. */
export const PURPOSE = {
  /** Which case, and where in it, a patch is taken. */
  sampling: 1,
  /** Crop, affine, mirrors and intensity of a patch. */
  augment: 2,
  /** Noise made inside a kernel. */
  noise: 3,
  /** Initial weights. */
  weights: 4,
  /** Label fractions and validation parts. */
  split: 5,
  /** Synthetic volumes. */
  synthetic: 6,
  /** Bootstrap draws. */
  bootstrap: 7,
  /** What a pre-training method draws beside its views: boxes, masks. */
  method: 8,
} as const;

const MUL0 = 0xd2511f53;
const MUL1 = 0xcd9e8d57;
const WEYL0 = 0x9e3779b9;
const WEYL1 = 0xbb67ae85;

/** High 32 bits of the product of two unsigned 32-bit numbers. */
function mulHigh(a: number, b: number): number {
  const aLow = a & 0xffff;
  const aHigh = a >>> 16;
  const bLow = b & 0xffff;
  const bHigh = b >>> 16;
  // Each product is below 2^32 and each sum below 2^53, so that float64 is exact.
  const middle = aHigh * bLow + Math.floor((aLow * bLow) / 65536);
  const cross = aLow * bHigh + (middle % 65536);
  return (aHigh * bHigh + Math.floor(middle / 65536) + Math.floor(cross / 65536)) >>> 0;
}

/** Ten rounds over a counter of four words with a key of two; the bare function, as the paper's known answers. */
export function philox4x32(
  counter: readonly [number, number, number, number],
  key: readonly [number, number],
): Uint32Array {
  let [c0, c1, c2, c3] = counter;
  let [k0, k1] = key;
  for (let round = 0; round < 10; round++) {
    const high0 = mulHigh(MUL0, c0 >>> 0);
    const low0 = Math.imul(MUL0, c0) >>> 0;
    const high1 = mulHigh(MUL1, c2 >>> 0);
    const low1 = Math.imul(MUL1, c2) >>> 0;
    const next0 = (high1 ^ c1 ^ k0) >>> 0;
    const next2 = (high0 ^ c3 ^ k1) >>> 0;
    c0 = next0;
    c1 = low1;
    c2 = next2;
    c3 = low0;
    k0 = (k0 + WEYL0) >>> 0;
    k1 = (k1 + WEYL1) >>> 0;
  }
  return Uint32Array.of(c0, c1, c2, c3);
}

/** The key of a seed: its low and high 32 bits (a seed is a non-negative integer below 2^64). */
export function seedKey(seed: bigint | number): [number, number] {
  const big = BigInt.asUintN(64, BigInt(seed));
  return [Number(big & 0xffffffffn), Number(big >> 32n)];
}

/** Four random words for (seed, step, sample, purpose); `block` numbers further fours of the same stream. */
export function philox(
  seed: bigint | number,
  step: number,
  sample: number,
  purpose: number,
  block: number = 0,
): Uint32Array {
  return philox4x32([block >>> 0, purpose >>> 0, sample >>> 0, step >>> 0], seedKey(seed));
}

/** Numbers in sequence from the stream (seed, step, sample, purpose). */
export class Draws {
  private readonly key: [number, number];
  private words: Uint32Array = new Uint32Array(4);
  private block = 0;
  private used = 4;
  private spare: number | undefined;

  constructor(
    seed: bigint | number,
    private readonly step: number,
    private readonly sample: number,
    private readonly purpose: number,
  ) {
    this.key = seedKey(seed);
  }

  /** 32 random bits. */
  word(): number {
    if (this.used === 4) {
      this.words = philox4x32([this.block, this.purpose >>> 0, this.sample >>> 0, this.step >>> 0], this.key);
      this.block = (this.block + 1) >>> 0;
      this.used = 0;
    }
    return this.words[this.used++]!;
  }

  /** Uniform in [0, 1), 53 bits (two words). */
  uniform(): number {
    const high = this.word() >>> 5;
    const low = this.word() >>> 6;
    return (high * 67108864 + low) / 9007199254740992;
  }

  /** Uniform in [low, high). */
  range(low: number, high: number): number {
    return low + (high - low) * this.uniform();
  }

  /** A whole number in 0 … n−1, without bias, n ≤ 2^32. */
  int(n: number): number {
    const limit = 4294967296 - (4294967296 % n);
    for (;;) {
      const word = this.word();
      if (word < limit) return word % n;
    }
  }

  /** Standard normal (Box–Muller, both values used). */
  normal(): number {
    if (this.spare !== undefined) {
      const value = this.spare;
      this.spare = undefined;
      return value;
    }
    const radius = Math.sqrt(-2 * Math.log(1 - this.uniform()));
    const angle = 2 * Math.PI * this.uniform();
    this.spare = radius * Math.sin(angle);
    return radius * Math.cos(angle);
  }

  /** A new list in random order (Fisher–Yates). */
  shuffled<T>(items: readonly T[]): T[] {
    const out = items.slice();
    for (let i = out.length - 1; i > 0; i--) {
      const j = this.int(i + 1);
      const held = out[i]!;
      out[i] = out[j]!;
      out[j] = held;
    }
    return out;
  }
}
