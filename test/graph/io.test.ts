/** What lies in io and where: inputs, constants and results; tensors laid side by side. */
import { afterAll, describe, expect, it } from 'vitest';
import { GraphBuilder } from '../../src/graph/builder.js';
import { compile } from '../../src/graph/compile.js';
import type { Shape, Tensor } from '../../src/graph/types.js';
import { Executor } from '../../src/model/executor.js';
import * as ops from '../../src/ops/index.js';
import { openReference } from '../golden/devices.js';
import { Rig } from '../golden/rig.js';
import { ALL_FUSIONS, buildAll, NO_FUSIONS, stubBackend } from './helpers.js';
import { values } from './numbers.js';

const backend = await openReference();
afterAll(() => backend.close());
const nothing = { offsets: new Map<Tensor, number>(), bytes: 0 };
const X: Shape = [2, 2, 3, 2, 2];

describe('the layout of io', () => {
  it.each(buildAll().map((b) => [b.name, b] as const))('%s: inputs first and together, then results', (_, built) => {
    const { io, ioInput, ioResults, sizes } = compile(built.graph, stubBackend, built.state, 1024);
    expect(ioInput.offset).toBe(0);
    expect(ioResults.offset).toBe(ioInput.bytes);
    expect(ioResults.offset + ioResults.bytes).toBe(sizes.io);
    const inside = (offset: number, bytes: number, r: typeof ioInput) =>
      offset >= r.offset && offset + bytes <= r.offset + r.bytes;
    const ends = [...io.values()].map(({ offset, bytes, role }) => {
      expect(inside(offset, bytes, role === 'result' ? ioResults : ioInput)).toBe(true);
      return [offset, offset + bytes] as const;
    });
    ends
      .sort((a, b) => a[0] - b[0])
      .forEach(([start], i) => i > 0 && expect(start).toBeGreaterThanOrEqual(ends[i - 1]![1]));
    const given = [...io].filter(([, s]) => s.role !== 'result').map(([name]) => name);
    expect(given).toEqual([...io.keys()].filter((name) => /^(pos|lr|x|y|i|i1|i2|v1|v2|running\.table)$/.test(name)));
  });

  it('names each tensor once', () => {
    const b = new GraphBuilder('f32');
    const x = b.input('x', X);
    const y = b.output(ops.activation(b, x, 0), 'y');
    expect(() => b.output(x, 'again')).toThrow(/again: an input, a view or a persistent tensor cannot be an output/);
    expect(() => b.output(b.constant('c', [1]), 'again')).toThrow(/cannot be an output/);
    expect(() => b.output(y, 'again')).toThrow(/is the result y already/);
    expect(b.output(y, 'y')).toBe(y);
  });
});

describe('constants', () => {
  it('are carried as bytes of their dtype', () => {
    const b = new GraphBuilder('f32');
    const c = b.constant('table', [1, -2, 3, 4], 'i32', [2, 2, 1, 1, 1]);
    b.output(ops.add(b, c, c), 'twice');
    const { constants, io } = compile(b.finish(), stubBackend, nothing, 0);
    expect([...constants.keys()]).toEqual(['table']);
    expect(new Int32Array(constants.get('table')!.slice().buffer)).toEqual(Int32Array.of(1, -2, 3, 4));
    expect(io.get('table')).toMatchObject({ role: 'constant', bytes: 16, shape: [2, 2, 1, 1, 1] });
  });

  it('are refused where they do not fit', () => {
    const b = new GraphBuilder('f32');
    expect(() => b.constant('c', [1, 0.5], 'i32')).toThrow(/c: element 1: .*\(i32\), found 0\.5/);
    expect(() => b.constant('c', [256], 'u8')).toThrow(/c: element 0: .*from 0 to 255 \(u8\), found 256/);
    expect([...b.constant('half', [1, -2], 'bf16').constant!]).toEqual([0x80, 0x3f, 0x00, 0xc0]);
    expect(() => b.constant('c', [1, 2], 'f64', [3, 1, 1, 1, 1])).toThrow(/2 numbers for 3×1×1×1×1/);
    b.constant('c', [1]);
    b.input('c', X);
    expect(() => compile(b.finish(), stubBackend, nothing, 0)).toThrow(/two inputs or results are named c/);
  });

  it('are there at every run, although programs share io', async () => {
    const program = (value: number) => {
      const b = new GraphBuilder(backend.info.real);
      const x = b.input('x', [1, 1, 1, 1, 1], 'f64');
      b.output(ops.add(b, x, b.constant('c', [value])), 'sum');
      return compile(b.finish(), backend, nothing, 0);
    };
    const programs = [program(10), program(200)];
    const run = await Executor.open(backend, programs, new Uint8Array(0));
    try {
      for (const [i, want] of [
        [0, 11],
        [1, 201],
        [0, 11],
      ] as const) {
        run.set(programs[i]!, 'x', [1]);
        await run.run(programs[i]!);
        expect(run.scalar(programs[i]!, 'sum')).toBe(want);
      }
    } finally {
      await run.close();
    }
  });
});

describe('tensors side by side', () => {
  const build = (rig: Rig) => {
    const { b } = rig;
    const x = rig.input('x', X, values('x', X));
    const w = rig.input('w', [3, 2, 3, 3, 3], values('w', [3, 2, 3, 3, 3]));
    const ones = b.constant('one', [1, 1, 1], b.real);
    const norm = { gamma: ones, beta: ones, runningMean: ones, runningVar: ones, eps: 1e-5 };
    const passes = [0, 1].map((i) => {
      const { y, pass } = ops.normactTrain(b, ops.conv3d(b, x, w, null), norm, i);
      rig.result(`y${i}`, y);
      return pass;
    });
    return passes;
  };

  it.each([
    ['unfused', NO_FUSIONS],
    ['fused', ALL_FUSIONS],
  ])('hold what each of them would, %s', async (_, fusions) => {
    const read = async (flat: boolean) => {
      const rig = new Rig(backend);
      const passes = build(rig);
      const parts = passes.flatMap((p) => [p.mean, p.var]);
      if (flat) {
        const all = rig.b.sideBySide('batch', parts);
        expect(all.shape).toEqual([12, 1, 1, 1, 1]);
        expect(parts.map((p) => p.view)).toEqual([0, 3, 6, 9].map((offset) => ({ of: all, offset, dense: true })));
        const copy = rig.b.tensor('copy', all.shape);
        rig.b.emit('copy_fwd', { accumulate: 0 }, { x: all }, { y: copy });
        rig.result('all', copy);
      } else parts.forEach((p, i) => rig.result(`p${i}`, p));
      const ready = await rig.ready(fusions);
      await ready.run();
      const out = flat ? [...ready.read('all')] : parts.flatMap((_p, i) => [...ready.read(`p${i}`)]);
      await ready.close();
      return out;
    };
    expect(await read(true)).toEqual(await read(false));
  });

  it('are refused where they lie elsewhere already', () => {
    const b = new GraphBuilder('f32');
    const t = () => b.tensor('t', [3, 1, 1, 1, 1]);
    const [a, c] = [t(), t()];
    b.tensor('part', [1, 1, 1, 1, 1], 'f32', { view: { of: c, offset: 0, dense: true } });
    for (const bad of [[], [a, a], [a, c], [a, b.input('x', X)], [a, b.scalar('s')], [b.opaque('ws')]])
      expect(() => b.sideBySide('flat', bad)).toThrow(/flat: /);
    b.sideBySide('flat', [a, t()]);
    expect(() => b.sideBySide('flat', [a])).toThrow(/cannot lie in it/);
  });
});
