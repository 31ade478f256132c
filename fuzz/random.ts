/** Seeded random numbers and mutations of bytes, text and JSON for the fuzzers. Not for anything statistical. */

export class Random {
  private state: number;
  constructor(seed: number) {
    this.state = (Math.imul(seed ^ 0x9e3779b9, 0x85ebca6b) ^ 0x1b873593) >>> 0;
  }
  /** A 32-bit word (mulberry32). */
  word(): number {
    this.state = (this.state + 0x6d2b79f5) >>> 0;
    let t = this.state;
    t = Math.imul(t ^ (t >>> 15), t | 1);
    t ^= t + Math.imul(t ^ (t >>> 7), t | 61);
    return (t ^ (t >>> 14)) >>> 0;
  }
  /** A whole number in [0, n). */
  below(n: number): number {
    return Math.floor((this.word() / 2 ** 32) * n);
  }
  chance(share: number): boolean {
    return this.word() < share * 2 ** 32;
  }
  pick<T>(items: readonly T[]): T {
    return items[this.below(items.length)] as T;
  }
}

/** Numbers at which arithmetic goes wrong. */
export const EDGES: readonly number[] = [
  ...[0, -0, 1, -1, 2, 3, 7, 8, 127, 128, 255, 256, 32767, 32768, 65535, 65536],
  ...[2 ** 31 - 1, 2 ** 31, -(2 ** 31), 2 ** 32 - 1, 2 ** 32, 2 ** 47, 2 ** 53 - 1, 2 ** 53, 2 ** 63],
  ...[0.5, 1e-45, 1e-30, 1e30, 1e200, -1e200, 1.7e308, NaN, Infinity, -Infinity],
];

/** A copy with some bytes, words or stretches changed, or the end cut off or added to. */
export function mutateBytes(bytes: Uint8Array, random: Random): Uint8Array {
  let out = Uint8Array.from(bytes);
  for (let times = 1 + random.below(4); times > 0; times--) {
    const at = random.below(Math.max(1, out.length));
    const view = new DataView(out.buffer, out.byteOffset, out.length);
    const value = random.pick(EDGES);
    switch (random.below(9)) {
      case 0:
        if (out.length > 0) out[at] = random.word() & 255;
        break;
      case 1:
        if (out.length > 0) out[at] = (out[at] as number) ^ (1 << random.below(8));
        break;
      case 2:
        if (at + 2 <= out.length) view.setInt16(at, value | 0, random.chance(0.8));
        break;
      case 3:
        if (at + 4 <= out.length) view.setInt32(at, value | 0, random.chance(0.8));
        break;
      case 4:
        if (at + 4 <= out.length) view.setFloat32(at, value, random.chance(0.8));
        break;
      case 5:
        if (at + 8 <= out.length) view.setFloat64(at, value, random.chance(0.8));
        break;
      case 6:
        if (at + 8 <= out.length && Number.isFinite(value))
          view.setBigInt64(at, BigInt.asIntN(64, BigInt(Math.trunc(value))), random.chance(0.8));
        break;
      case 7:
        out = out.slice(0, random.below(out.length + 1));
        break;
      default: {
        const from = random.below(Math.max(1, out.length));
        const piece = out.slice(from, from + random.below(64));
        out = Uint8Array.from([...out.subarray(0, at), ...piece, ...out.subarray(at)]);
      }
    }
  }
  return out;
}

const STRINGS = [
  '',
  ' ',
  '__proto__',
  'constructor',
  '../../x',
  '/dev/null',
  '\u0000',
  'é',
  '🙂',
  'x'.repeat(300),
  '-1',
];

/** Any JSON value (or one that JSON lacks), nested a little. */
export function anyValue(random: Random, depth = 0): unknown {
  const kind = random.below(depth > 3 ? 5 : 8);
  if (kind === 0) return random.pick(EDGES);
  if (kind === 1) return random.pick(STRINGS);
  if (kind === 2) return random.chance(0.5);
  if (kind === 3) return null;
  if (kind === 4) return random.below(100) - 20;
  if (kind === 5) return Array.from({ length: random.below(6) }, () => anyValue(random, depth + 1));
  if (kind === 6) return Object.fromEntries(Array.from({ length: random.below(4) }, () => [random.pick(STRINGS), 1]));
  let nested: unknown = random.below(3);
  for (let n = random.below(200); n > 0; n--) nested = random.chance(0.5) ? [nested] : { a: nested };
  return nested;
}

/** A copy of a JSON value in which some members are changed, removed, renamed, doubled or added. */
export function mutateJson(value: unknown, random: Random, share = 0.15): unknown {
  if (random.chance(share * 0.3)) return anyValue(random);
  if (Array.isArray(value)) {
    const items = value.flatMap((v) => {
      if (random.chance(share * 0.3)) return [];
      const item = mutateJson(v, random, share);
      return random.chance(share * 0.2) ? [item, item] : [item];
    });
    return random.chance(share * 0.2) ? [...items, anyValue(random)] : items;
  }
  if (typeof value === 'object' && value !== null) {
    const entries = Object.entries(value).flatMap(([key, v]): [string, unknown][] => {
      if (random.chance(share * 0.4)) return [];
      const name = random.chance(share * 0.2) ? `${key}${random.pick(['s', '', '_', ' '])}` : key;
      return [[name, mutateJson(v, random, share)]];
    });
    if (random.chance(share * 0.3)) entries.push([random.pick(STRINGS), anyValue(random)]);
    return Object.fromEntries(entries);
  }
  if (typeof value === 'number' && random.chance(share)) return random.chance(0.5) ? random.pick(EDGES) : -value;
  if (typeof value === 'string' && random.chance(share)) return random.pick(STRINGS);
  return value;
}
