/** One convolution as a program, which benchmarks time. */
import { DEFAULT_ARITHMETIC, type Arithmetic } from '../src/arithmetic.js';
import type { Backend, Session } from '../src/backend/types.js';
import { GraphBuilder } from '../src/graph/builder.js';
import { compile } from '../src/graph/compile.js';
import type { Shape, Tensor } from '../src/graph/types.js';
import '../src/ops/index.js';

/** [N, D, H, W], in, out, kernel. */
export interface ConvCase {
  readonly voxels: readonly [number, number, number, number];
  readonly i: number;
  readonly o: number;
  readonly k: readonly [number, number, number];
}

export const PASSES = ['forward', 'dx', 'dw'] as const;
export type Pass = (typeof PASSES)[number];

export function labelOf(c: ConvCase): string {
  return `${c.voxels.join('×')} ${c.i}→${c.o} k${c.k.join('')}`;
}

export const flopOf = (c: ConvCase) => 2 * [...c.voxels, c.i, c.o, ...c.k].reduce((a, b) => a * b, 1);

/** Random bytes of fp32 numbers in [−1, 1): one block of them again and again, as the generator is not what is timed. */
function randomBytes(count: number): Uint8Array {
  const block = Float32Array.from({ length: 65_521 }, () => Math.random() * 2 - 1);
  const all = new Float32Array(count);
  for (let at = 0; at < count; at += block.length) all.set(block.subarray(0, Math.min(block.length, count - at)), at);
  return new Uint8Array(all.buffer);
}

/** One convolution `repeats` times in a program, so that the call itself does not count for small ones. */
function programOf(backend: Backend, c: ConvCase, pass: Pass, repeats: number, arithmetic: Arithmetic) {
  const b = new GraphBuilder('f32');
  const x = b.input('x', [...c.voxels, c.i] as const satisfies Shape);
  const w = b.input('w', [c.o, c.i, ...c.k] as const satisfies Shape);
  const bias = b.input('bias', [c.o, 1, 1, 1, 1]);
  const dy = b.input('dy', [...c.voxels, c.o] as const satisfies Shape);
  const [kd, kh, kw] = c.k;
  const stats = pass === 'forward' && kd * kh * kw > 1 ? 1 : 0;
  const attrs = { kd, kh, kw, sd: 1, sh: 1, sw: 1, stats, act: 0, slope: 0, accumulate: 0 };
  const pack = (mode: number) =>
    b.emitOnce('conv3d_pack', { mode, sd: 1, sh: 1, sw: 1 }, { w }, 'wp', () => b.opaque(`wp${mode}`));
  const result = (like: Tensor, last: boolean) => {
    const t = b.tensor('result', like.shape);
    return last ? b.output(t, 'result') : t;
  };
  for (let r = 1; r <= repeats; ++r) {
    const last = r === repeats;
    if (pass === 'forward') {
      const moment = (name: string) => (stats ? b.tensor(name, bias.shape) : null);
      const outputs = { y: result(dy, last), mean: moment('mean'), var: moment('var'), ws: b.opaque('ws') };
      b.emit('conv3d_fwd', attrs, { x, wp: pack(0), b: bias }, outputs);
    } else if (pass === 'dx') {
      b.emit('conv3d_bwd_x', attrs, { dy, wp: pack(1) }, { dx: result(x, last), ws: b.opaque('ws') });
    } else {
      const db = b.tensor('db', bias.shape);
      b.emit('conv3d_bwd_w', attrs, { x, dy }, { dw: result(w, last), db, ws: b.opaque('ws') });
    }
  }
  return compile(b.finish(), backend, { offsets: new Map(), bytes: 0 }, 0, { arithmetic });
}

/** How often in a program, so that the call itself does not count. */
export const repeatsOf = (c: ConvCase): number => Math.min(8, Math.max(1, Math.round(1e9 / flopOf(c))));

/** A session with random data in which the convolution has run once, its result written whole. Milliseconds are divided by `repeats`. */
export async function openConv(
  backend: Backend,
  c: ConvCase,
  pass: Pass,
  repeats: number,
  arithmetic: Arithmetic = DEFAULT_ARITHMETIC,
): Promise<{ session: Session; run: () => Promise<unknown> }> {
  const program = programOf(backend, c, pass, repeats, arithmetic);
  const session = await backend.createSession(program.sizes);
  try {
    const loaded = session.load(program.bytes);
    for (const [name, slot] of program.io)
      if (name !== 'result') session.write('io', slot.offset, randomBytes(slot.bytes / 4));
    const result = program.io.get('result');
    if (!result) throw new Error('the program has no result');
    session.write('io', result.offset, new Uint8Array(result.bytes).fill(0xff)); // NaN
    await session.run(loaded);
    const values = new Float32Array(session.read('io', result.offset, result.bytes).slice().buffer);
    if (!values.every(Number.isFinite)) throw new Error(`${labelOf(c)} ${pass}: the result was not written whole`);
    return { session, run: () => session.run(loaded) };
  } catch (error) {
    await session.close();
    throw error;
  }
}
