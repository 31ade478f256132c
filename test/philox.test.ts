import { describe, expect, it } from 'vitest';
import { Draws, philox, philox4x32, seedKey } from '../src/philox.js';

describe('Philox 4x32-10', () => {
  // The known answers that come with Random123 (kat_vectors).
  it.each([
    [
      [0, 0, 0, 0],
      [0, 0],
      [0x6627e8d5, 0xe169c58d, 0xbc57ac4c, 0x9b00dbd8],
    ],
    [
      [0xffffffff, 0xffffffff, 0xffffffff, 0xffffffff],
      [0xffffffff, 0xffffffff],
      [0x408f276d, 0x41c83b0e, 0xa20bc7c6, 0x6d5451fd],
    ],
    [
      [0x243f6a88, 0x85a308d3, 0x13198a2e, 0x03707344],
      [0xa4093822, 0x299f31d0],
      [0xd16cfe09, 0x94fdcceb, 0x5001e420, 0x24126ea1],
    ],
  ])('%j with key %j', (counter, key, expected) => {
    const words = philox4x32(counter as [number, number, number, number], key as [number, number]);
    expect([...words]).toEqual(expected);
  });

  it('takes block, purpose, sample, step as counter and the seed as key', () => {
    expect(philox(2n ** 32n + 5n, 1, 2, 3, 4)).toEqual(philox4x32([4, 3, 2, 1], [5, 1]));
    expect(seedKey(7)).toEqual([7, 0]);
  });

  it('draws the words in order, uniform in range, normal with the right moments', () => {
    const draws = new Draws(1, 2, 3, 4);
    const words = [...philox(1, 2, 3, 4, 0), ...philox(1, 2, 3, 4, 1)];
    expect(Array.from({ length: 8 }, () => draws.word())).toEqual(words);
    const d = new Draws(42, 0, 0, 1);
    const n = 20000;
    let [sum, squares, ones] = [0, 0, 0];
    for (let i = 0; i < n; i++) {
      const x = d.normal();
      sum += x;
      squares += x * x;
      const u = d.uniform();
      expect(u >= 0 && u < 1).toBe(true);
      ones += d.int(3) === 1 ? 1 : 0;
    }
    expect(Math.abs(sum / n)).toBeLessThan(0.03);
    expect(Math.abs(squares / n - 1)).toBeLessThan(0.04);
    expect(Math.abs(ones / n - 1 / 3)).toBeLessThan(0.02);
    const items = [1, 2, 3, 4, 5, 6];
    expect([...new Draws(9, 0, 0, 5).shuffled(items)].sort()).toEqual(items);
    expect(new Draws(9, 0, 0, 5).shuffled(items)).toEqual(new Draws(9, 0, 0, 5).shuffled(items));
  });
});
