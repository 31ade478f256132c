/** One convolution as a program, which benchmarks time. */
import { DEFAULT_ARITHMETIC } from '../src/arithmetic.js';
import type { Backend, Session } from '../src/backend/types.js';
import { decode, encode } from '../src/graph/codec.js';
import { compile } from '../src/graph/compile.js';
import { DTYPE_BYTES, DTYPES, type DType, type Shape, type Tensor } from '../src/graph/types.js';
import { builderFor } from '../src/methods/precision.js';
import '../src/ops/index.js';
import type { Computing } from './works.js';

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

/** Random numbers in [−1, 1): one block of them again and again, as the generator is not what is timed. */
function randomBytes(dtype: DType, count: number): Uint8Array {
  const block = Float32Array.from({ length: 65_521 }, () => Math.random() * 2 - 1);
  const all = new Float32Array(count);
  for (let at = 0; at < count; at += block.length) all.set(block.subarray(0, Math.min(block.length, count - at)), at);
  return encode(dtype, all);
}

/** One convolution `repeats` times in a program, so that the call itself does not count for small ones. */
function programOf(backend: Backend, c: ConvCase, pass: Pass, repeats: number, computing: Computing) {
  const b = builderFor(computing.precision, backend.info);
  const x = b.input('x', [...c.voxels, c.i] as const satisfies Shape);
  const w = b.input('w', [c.o, c.i, ...c.k] as const satisfies Shape, b.real);
  const bias = b.input('bias', [c.o, 1, 1, 1, 1], b.real);
  const dy = b.input('dy', [...c.voxels, c.o] as const satisfies Shape);
  const [kd, kh, kw] = c.k;
  const stats = pass === 'forward' && kd * kh * kw > 1 ? 1 : 0;
  const attrs = { kd, kh, kw, sd: 1, sh: 1, sw: 1, stats, act: 0, slope: 0, accumulate: 0 };
  const pack = (mode: number) =>
    b.emitOnce('conv3d_pack', { mode, sd: 1, sh: 1, sw: 1, dtype: DTYPES[x.dtype] }, { w }, 'wp', () =>
      b.opaque(`wp${mode}`),
    );
  const result = (like: Tensor, last: boolean) => {
    const t = b.tensor('result', like.shape, like.dtype);
    return last ? b.output(t, 'result') : t;
  };
  for (let r = 1; r <= repeats; ++r) {
    const last = r === repeats;
    if (pass === 'forward') {
      const moment = (name: string) => (stats ? b.tensor(name, bias.shape, b.real) : null);
      const outputs = { y: result(dy, last), mean: moment('mean'), var: moment('var'), ws: b.opaque('ws') };
      b.emit('conv3d_fwd', attrs, { x, wp: pack(0), b: bias }, outputs);
    } else if (pass === 'dx') {
      b.emit('conv3d_bwd_x', attrs, { dy, wp: pack(1) }, { dx: result(x, last), ws: b.opaque('ws') });
    } else {
      const db = b.tensor('db', bias.shape, b.real);
      b.emit('conv3d_bwd_w', attrs, { x, dy }, { dw: result(w, last), db, ws: b.opaque('ws') });
    }
  }
  return compile(b.finish(), backend, { offsets: new Map(), bytes: 0 }, 0, {
    arithmetic: computing.arithmetic,
  });
}

/** How often in a program, so that the call itself does not count. */
export const repeatsOf = (c: ConvCase): number => Math.min(8, Math.max(1, Math.round(1e9 / flopOf(c))));

/** A session with random data in which the convolution has run once, its result written whole. Milliseconds are divided by `repeats`. */
export async function openConv(
  backend: Backend,
  c: ConvCase,
  pass: Pass,
  repeats: number,
  computing: Computing = { arithmetic: DEFAULT_ARITHMETIC, precision: 'fp32' },
): Promise<{ session: Session; run: () => Promise<unknown> }> {
  const program = programOf(backend, c, pass, repeats, computing);
  const session = await backend.createSession(program.sizes);
  try {
    const loaded = session.load(program.bytes);
    for (const [name, slot] of program.io)
      if (name !== 'result')
        session.write('io', slot.offset, randomBytes(slot.dtype, slot.bytes / DTYPE_BYTES[slot.dtype]));
    const result = program.io.get('result');
    if (!result) throw new Error('the program has no result');
    session.write('io', result.offset, new Uint8Array(result.bytes).fill(0xff)); // NaN
    await session.run(loaded);
    const values = decode(result.dtype, session.read('io', result.offset, result.bytes));
    if (!values.every(Number.isFinite)) throw new Error(`${labelOf(c)} ${pass}: the result was not written whole`);
    return { session, run: () => session.run(loaded) };
  } catch (error) {
    await session.close();
    throw error;
  }
}
