/** The state table: roles, prefixes, dtypes of its entries, and where they lie. */
import { describe, expect, it } from 'vitest';
import { sizeOf } from '../../src/graph/shape.js';
import { declareBlock } from '../../src/nn/layers.js';
import { addressOfEntry, CHECKPOINT_ROLES, MODEL_ROLES, StateBuilder } from '../../src/nn/state.js';

const zero = { kind: 'constant', value: 0 } as const;

describe('modules that are declared twice', () => {
  const s = new StateBuilder({ real: 'f32', alignment: 64 });
  const online = declareBlock(s, 'encoder.blocks.0', 1, 4, [3, 3, 3]);
  const target = s.under('target.', { parameter: 'twin' }, () => declareBlock(s, 'encoder.blocks.0', 1, 4, [3, 3, 3]));
  s.declare('queue.rows', [8, 16], 'queue', zero);
  s.declare('queue.offset', [1], 'buffer', zero, 'i32');
  const table = s.finish(['m'], false);
  const entry = (name: string) => table.entries.find((e) => e.name === name)!;

  it('have the names of the first with the prefix, and roles of their own', () => {
    const names = (role: string) => table.entries.filter((e) => e.role === role).map((e) => e.name);
    expect(names('twin')).toEqual(names('parameter').map((n) => `target.${n}`));
    expect(names('statistic').filter((n) => n.startsWith('target.'))).toHaveLength(4);
    expect(names('moment')).toEqual(names('parameter').map((n) => `optimizer.m.${n}`));
  });

  it('lie in the layout of the first, so that an average is one kernel over both', () => {
    expect(table.twins && sizeOf(table.twins.shape)).toBe(table.parameterCount);
    const at = (t: { view?: { offset: number; of: unknown } }) => t.view?.offset;
    for (const [i, { conv, norm }] of online.entries()) {
      expect(at(target[i]!.conv.weight)).toBe(at(conv.weight));
      expect(at(target[i]!.norm.beta!)).toBe(at(norm.beta!));
      expect(target[i]!.conv.weight.view?.of).toBe(table.twins);
    }
  });

  it('follow it into ranges of parameters too', () => {
    const b = new StateBuilder({ real: 'f32', alignment: 64 });
    const first = declareBlock(b, 'encoder.blocks.0', 1, 4, [3, 3, 3]);
    const second = b.under('target.', { parameter: 'twin' }, () =>
      declareBlock(b, 'encoder.blocks.0', 1, 4, [3, 3, 3]),
    );
    const rangeOf = ({ name }: { name: string }) => (name.startsWith('encoder.') && name.endsWith('.bias') ? 0 : 1);
    const { entries, ranges } = b.finish(['m'], true, { ranges: ['biases', ''], rangeOf });
    expect(ranges.map(({ name, offset, parameterCount }) => [name, offset, parameterCount])).toEqual([
      ['biases', 0, 16],
      ['', 16, 4 * 27 + 16 * 27 + 8],
    ]);
    first.forEach(({ conv, norm }, i) => {
      for (const [own, twin] of [
        [conv.weight, second[i]!.conv.weight],
        [conv.bias, second[i]!.conv.bias],
        [norm.gamma!, second[i]!.norm.gamma!],
      ] as const)
        expect(twin.view!.offset, own.name).toBe(own.view!.offset);
    });
    // What a tensor begins with goes by its number: the order of declaration.
    const names = (role: string) => entries.filter((e) => e.role === role).map((e) => e.name);
    expect(names('twin')).toEqual(names('parameter').map((n) => `target.${n}`));
    expect(names('parameter').slice(0, 2)).toEqual(['encoder.blocks.0.conv1.weight', 'encoder.blocks.0.conv1.bias']);
  });

  it('entries have dtypes of their own, and none overlaps another', () => {
    expect(entry('queue.offset').tensor.dtype).toBe('i32');
    const ranges = table.entries
      .map((e) => addressOfEntry(table, e))
      .sort((a, b) => a.offset - b.offset || a.bytes - b.bytes);
    ranges
      .slice(1)
      .forEach(({ offset }, i) => expect(offset).toBeGreaterThanOrEqual(ranges[i]!.offset + ranges[i]!.bytes));
    expect(Math.max(...ranges.map((r) => r.offset + r.bytes))).toBeLessThanOrEqual(table.bytes);
  });

  it('its tensors begin where the backend wants buffers to begin', () => {
    for (const alignment of [64, 256]) {
      const builder = new StateBuilder({ real: 'f32', alignment });
      declareBlock(builder, 'block', 1, 3, [3, 3, 3]);
      builder.declare('queue', [5], 'queue', zero);
      const { offsets, bytes, running } = builder.finish(['m', 'v'], true);
      expect(offsets.size).toBe(6);
      for (const offset of [...offsets.values(), bytes]) expect(offset % alignment).toBe(0);
      expect(sizeOf(running!.shape)).toBe(2 * 2 * 3);
    }
  });

  it('a twin goes into a checkpoint and into no model; a name is declared once', () => {
    expect(CHECKPOINT_ROLES).toContain('twin');
    expect(MODEL_ROLES).toEqual(['parameter', 'statistic']);
    const again = new StateBuilder({ real: 'f32', alignment: 64 });
    again.declare('a', [1], 'parameter', zero);
    expect(() => again.declare('a', [1], 'parameter', zero)).toThrow(/declared twice/);
    expect(() => again.declare('b', [1], 'parameter', zero, 'i32')).toThrow(/held in f32/);
  });
});
