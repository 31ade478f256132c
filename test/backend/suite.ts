/** What every backend must do, whatever the machine: the same tests for cpu, wasm, reference and cuda. */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import type { Backend, BackendOptions, Session } from '../../src/backend/types.js';
import { MaclError, type MaclErrorCode } from '../../src/errors.js';
import type { SegmentSizes } from '../../src/graph/types.js';
import {
  add,
  copy,
  encode,
  F32,
  F64,
  fill,
  I32,
  IO,
  SCRATCH,
  STATE,
  tensor,
  U8,
  type TinyCall,
  type TinyProgram,
} from './tiny-program.js';

const turn = () => new Promise<void>((resolve) => setImmediate(resolve));
const sizes = (more: Partial<SegmentSizes> = {}): SegmentSizes => ({
  state: 4096,
  scratch: 1 << 16,
  io: 4096,
  store: 0,
  ...more,
});
const floats = (bytes: Uint8Array): number[] => [...new Float32Array(bytes.slice().buffer)];
const int32 = (v: number): Uint8Array => new Uint8Array(new Int32Array([v]).buffer);

export async function failure(run: () => unknown): Promise<MaclError> {
  try {
    await run();
  } catch (error) {
    expect(error).toBeInstanceOf(MaclError);
    return error as MaclError;
  }
  throw new Error('nothing was thrown');
}
async function expectCode(code: MaclErrorCode, run: () => unknown, message?: RegExp): Promise<MaclError> {
  const error = await failure(run);
  expect(`${error.code}: ${error.message}`).toMatch(new RegExp(`^${code}: `));
  if (message) expect(error.message).toMatch(message);
  return error;
}

const BIG = 1 << 22; // bytes of one buffer of the long program
/** Hundreds of passes over a buffer of scratch, then a commit that writes 7 into state. */
export function longProgram(passes = 600, bytes = BIG): Uint8Array {
  const big = tensor(SCRATCH, F32, 0, bytes / 4096, 1024);
  const calls = Array.from({ length: passes }, (_, i) => fill(big, i));
  return encode({ calls: [...calls, fill(tensor(STATE, F32, 0, 4), 7, true)] });
}

/**
 * `big`: bytes that this machine needs a noticeable time for, hundreds of times. `timed`: whether it knows what each instruction
 * took.
 */
export function backendSuite(open: (options: BackendOptions) => Promise<Backend>, big = BIG, timed = false): void {
  let backend: Backend;
  const opened: Backend[] = [];
  const openWith = async (options: BackendOptions): Promise<Backend> => {
    const b = await open(options);
    opened.push(b);
    return b;
  };
  beforeAll(async () => {
    backend = await openWith({ threads: 2 });
  });
  afterAll(async () => {
    for (const b of opened) await b.close();
  });
  async function withSession<T>(size: SegmentSizes, use: (session: Session) => Promise<T>, on = backend): Promise<T> {
    const session = await on.createSession(size);
    try {
      return await use(session);
    } finally {
      await session.close();
    }
  }

  describe('running', () => {
    const a = tensor(IO, F32, 0, 3, 5, 7);
    const b = tensor(IO, F32, 1024, 3, 5, 7);
    const c = tensor(SCRATCH, F32, 0, 3, 5, 7);

    it('computes, once and again, and memory begins as zeros', () =>
      withSession(sizes(), async (s) => {
        expect(floats(s.read('scratch', 0, 420)).every((v) => v === 0)).toBe(true);
        const program = s.load(encode({ calls: [fill(a, 2), add(a, b, c), copy(c, b, 1)] }));
        const input = new Float32Array(105).map((_, i) => i);
        s.write('io', 1024, new Uint8Array(input.buffer));
        expect(await s.run(program)).toEqual({ committed: true });
        expect(floats(s.read('io', 1024, 420))).toEqual([...input].map((v) => v + v + 2));
        await s.run(program);
        expect(floats(s.read('io', 1024, 8))).toEqual([6, 10]);
      }));

    it.each([1, 2, 3, 7])('gives the same bytes with %i threads', async (threads) => {
      const on = await openWith({ threads });
      expect(on.info.threads).toBe(threads);
      await withSession(
        sizes({ scratch: 1 << 20 }),
        async (s) => {
          const wide = tensor(SCRATCH, F32, 64, 9, 11, 13, 17);
          const program = s.load(
            encode({ calls: [fill(wide, 0.1), ...Array.from({ length: 20 }, () => add(wide, wide, wide))] }),
          );
          for (let i = 0; i < 5; i++) await s.run(program);
          const bytes = floats(s.read('scratch', 64, 9 * 11 * 13 * 17 * 4));
          expect(bytes.every((v) => v === Math.fround(0.1) * 2 ** 20)).toBe(true);
        },
        on,
      );
    });

    it('takes only channels of a wider tensor, and leaves the rest alone', () =>
      withSession(sizes(), async (s) => {
        const slice = { ...tensor(SCRATCH, F32, 8, 3, 2), ld: 5 };
        await s.run(s.load(encode({ calls: [fill(slice, 1)] })));
        expect(floats(s.read('scratch', 0, 60))).toEqual([0, 0, 1, 1, 0, 0, 0, 1, 1, 0, 0, 0, 1, 1, 0]);
      }));

    it('runs a program without instructions', () =>
      withSession(sizes(), async (s) => {
        expect(await s.run(s.load(encode({ calls: [] })))).toEqual({ committed: true });
      }));

    it('commits only while the guard is 0', () =>
      withSession(sizes(), async (s) => {
        const w = tensor(STATE, F32, 0, 4);
        const program = s.load(encode({ calls: [fill(c, 1), fill(w, 3, true)], guard: { segment: IO, offset: 8 } }));
        s.write('io', 8, int32(1));
        expect(await s.run(program)).toEqual({ committed: false });
        expect(floats(s.read('state', 0, 16))).toEqual([0, 0, 0, 0]);
        expect(floats(s.read('scratch', 0, 4))).toEqual([1]);
        s.write('io', 8, int32(0));
        expect(await s.run(program)).toEqual({ committed: true });
        expect(floats(s.read('state', 0, 16))).toEqual([3, 3, 3, 3]);
      }));

    it('reads a guard that the program itself has set', () =>
      withSession(sizes(), async (s) => {
        const guard = tensor(SCRATCH, I32, 256, 1);
        const calls = [fill(guard, 1), fill(tensor(STATE, F32, 0, 4), 3, true)];
        expect(await s.run(s.load(encode({ calls, guard: { segment: SCRATCH, offset: 256 } })))).toEqual({
          committed: false,
        });
      }));
  });

  describe('stopping', () => {
    it('aborts between kernels, keeps the state, and goes on afterwards', () =>
      withSession(sizes({ scratch: big }), async (s) => {
        const program = s.load(longProgram(600, big));
        const controller = new AbortController();
        const run = s.run(program, { signal: controller.signal });
        await turn();
        controller.abort();
        await expectCode('aborted', () => run);
        expect(floats(s.read('state', 0, 4))).toEqual([0]);
        expect(await s.run(s.load(longProgram(3, big)))).toEqual({ committed: true });
        expect(floats(s.read('state', 0, 4))).toEqual([7]);
      }));

    it('does not begin when the signal is aborted already', () =>
      withSession(sizes(), async (s) => {
        const program = s.load(encode({ calls: [fill(tensor(SCRATCH, F32, 0, 4), 1)] }));
        await expectCode('aborted', () => s.run(program, { signal: AbortSignal.abort() }));
        expect(floats(s.read('scratch', 0, 4))).toEqual([0]);
      }));

    it('leaves the event loop free during a run', () =>
      withSession(sizes({ scratch: big }), async (s) => {
        let turns = 0;
        let over = false;
        const run = s.run(s.load(longProgram(600, big))).then(() => (over = true));
        for (; !over; turns++) await turn();
        await run;
        expect(turns).toBeGreaterThan(20);
      }));

    it('refuses everything but abort while a program runs', () =>
      withSession(sizes({ scratch: big }), async (s) => {
        const program = s.load(longProgram(600, big));
        const run = s.run(program);
        await expectCode('state', () => s.run(program), /running/);
        await expectCode('state', () => s.read('io', 0, 4), /running/);
        await expectCode('state', () => s.write('io', 0, new Uint8Array(4)), /running/);
        await expectCode('state', () => s.load(longProgram(1, big)), /running/);
        await run;
      }));

    it('closes during a run, twice, and then refuses everything', async () => {
      const s = await backend.createSession(sizes({ scratch: big }));
      const program = s.load(longProgram(600, big));
      const run = s.run(program);
      const ended = expectCode('aborted', () => run);
      await Promise.all([s.close(), s.close()]);
      await ended;
      await expectCode('state', () => s.run(program), /closed/);
      await expectCode('state', () => s.load(longProgram(1, big)), /closed/);
      await expectCode('state', () => s.read('io', 0, 4), /closed/);
      await expectCode('state', () => s.write('io', 0, new Uint8Array(4)), /closed/);
    });

    it('runs many sessions at once', async () => {
      const work = Array.from({ length: 6 }, (_, i) =>
        withSession(sizes(), async (s) => {
          const y = tensor(SCRATCH, F32, 0, 100);
          const program = s.load(encode({ calls: [fill(y, i + 1), add(y, y, y), copy(y, tensor(IO, F32, 0, 100))] }));
          for (let k = 0; k < 20; k++) await s.run(program);
          return floats(s.read('io', 0, 400));
        }),
      );
      (await Promise.all(work)).forEach((values, i) => expect(values).toEqual(Array(100).fill(2 * (i + 1))));
    });

    it('reports the status of a kernel with its name and instruction, and goes on afterwards', async () => {
      const real = backend.info.real;
      const [type, size] = real === 'f32' ? ([F32, 4] as const) : ([F64, 8] as const);
      const x = tensor(SCRATCH, type, 0, 1, 4, 4, 4, 3);
      const y = tensor(IO, I32, 0, 1, 4, 4, 4, 1);
      const infos = [
        { shape: x.shape, ld: 3, dtype: real },
        { shape: y.shape, ld: 1, dtype: 'i32' as const },
        null,
        { shape: [1, 1, 1, 1, 1], ld: 1, dtype: 'f64' as const },
        { shape: [1, 1, 1, 1, 1], ld: 1, dtype: 'f64' as const },
        { shape: [1, 1, 1, 1, 1], ld: 1, dtype: 'u8' as const },
      ];
      const attrs = new Uint8Array(new BigInt64Array([255n, 0n]).buffer);
      const ws = backend.opaqueBytes('softmaxce_fwd', infos, attrs, 5);
      expect(ws).toBeGreaterThanOrEqual(0);
      const scalar = (at: number) => tensor(IO, F64, 1024 + 8 * at, 1);
      const workspace = ws === 0 ? null : tensor(SCRATCH, U8, 4096, ws, 1, 1, 1, 1);
      const call = {
        kernel: 'softmaxce_fwd',
        tensors: [x, y, null, scalar(0), scalar(1), workspace],
        attrs: [255, 0],
        whole: true,
      };
      expect(size * 192).toBeLessThan(4096);
      await withSession(sizes({ scratch: 4096 + ws }), async (s) => {
        const program = s.load(encode({ calls: [fill(x, 0.5), call] }));
        await s.run(program);
        const loss = new Float64Array(s.read('io', 1024, 8).slice().buffer)[0];
        expect(loss).toBeCloseTo(Math.log(3), 5);
        s.write('io', 4, int32(3));
        const error = await expectCode(
          'label',
          () => s.run(program),
          /instruction 1 \(softmaxce_fwd\): a label outside/,
        );
        expect(error.details.field).toBe('softmaxce_fwd');
        s.write('io', 4, int32(255));
        expect(await s.run(program)).toEqual({ committed: true });
        if (ws > 0) {
          call.tensors[5] = null;
          await expectCode('program', () => s.load(encode({ calls: [call] })), /instruction 0 \(softmaxce_fwd/);
        }
      });
    });
  });

  describe('what only a run can find', () => {
    // A commit behind it: the state stays as it was, and the session goes on.
    const failing = async (call: TinyCall, input: Uint8Array, code: MaclErrorCode, message: RegExp) =>
      withSession(sizes({ store: 4096 }), async (s) => {
        s.write('io', 0, input);
        const commit = fill(tensor(STATE, F32, 0, 4), 7, true);
        const program = s.load(encode({ calls: [call, commit] }));
        const error = await expectCode(code, () => s.run(program), message);
        expect(error.details).toEqual({ field: call.kernel, found: expect.any(String) as string });
        expect(s.read('state', 0, 16)).toEqual(new Uint8Array(16));
        await s.run(s.load(encode({ calls: [commit] })));
        expect(floats(s.read('state', 0, 16))).toEqual([7, 7, 7, 7]);
      });
    const f64s = (values: readonly number[]) => new Uint8Array(new Float64Array(values).buffer);

    it('a volume that its descriptor places outside the store', async () => {
      const type = backend.info.real === 'f32' ? F32 : F64;
      const words = new Array<number>(40).fill(0);
      // base, D H W, strides, dtype f32, scale: docs of native/ops/warp3d.h.
      words.splice(0, 9, 4000, 4, 4, 4, 16, 4, 1, 0, 1);
      const call = {
        kernel: 'warp3d_fwd',
        tensors: [tensor(IO, F64, 0, 1, 1, 40, 1, 1), tensor(SCRATCH, type, 0, 1, 2, 2, 2, 1)],
        attrs: [1],
        whole: true,
      };
      await failing(
        call,
        f64s(words),
        'program',
        /instruction 0 \(warp3d_fwd\): a volume descriptor outside the store/,
      );
    });

    it('a table of running statistics that points outside them', async () => {
      if (backend.info.real !== 'f32') return;
      const table = [0, 1, 0, 8, 0, 50];
      const call: TinyCall = {
        kernel: 'running_step',
        tensors: [tensor(SCRATCH, F32, 0, 8), tensor(IO, F64, 0, 6), tensor(STATE, F32, 0, 8)],
        attrs: [0.1, 1],
        kinds: ['f64', 'i64'],
        commit: true,
      };
      await withSession(sizes(), async (s) => {
        const program = s.load(encode({ calls: [call] }));
        s.write('io', 0, f64s(table));
        await expectCode('program', () => s.run(program), /instruction 0 \(running_step\): shapes that do not fit/);
        s.write('io', 0, f64s([0, 1, 0, 4, 0, 50]));
        expect(await s.run(program)).toEqual({ committed: true });
      });
    });
  });

  describe('what a program may be', () => {
    const good = (): TinyProgram => ({
      calls: [
        fill(tensor(SCRATCH, F32, 64, 2, 3), 1),
        copy(tensor(SCRATCH, F32, 64, 2, 3), tensor(STATE, F32, 0, 2, 3), 0, true),
      ],
      guard: { segment: IO, offset: 0 },
      sizes: [64, 128, 64, 0],
    });
    type Change = (p: TinyProgram & { calls: { tensors: { [k: string]: unknown }[]; attrs: number[] }[] }) => void;
    const cases: [string, Change, RegExp][] = [
      [
        'an offset before the segment',
        (p) => (p.calls[0]!.tensors[0]!.offset = -4),
        /instruction 0 \(fill_fwd\), tensor y.*outside/,
      ],
      [
        'an end past the segment',
        (p) => (p.calls[1]!.tensors[1]!.offset = 4096 - 20),
        /instruction 1 \(copy_fwd\), tensor y.*outside/,
      ],
      ['an offset near 2^63', (p) => (p.calls[0]!.tensors[0]!.offset = 2 ** 62), /outside/],
      ['a crooked offset', (p) => (p.calls[0]!.tensors[0]!.offset = 66), /not a multiple of 4/],
      [
        'bytes that the shape does not have',
        (p) => (p.calls[0]!.tensors[0]!.bytes = 28),
        /says 28 bytes, but its shape touches 24/,
      ],
      ['a size of zero', (p) => (p.calls[0]!.tensors[0]!.shape = [1, 1, 1, 0, 3]), /axis 3 has size 0/],
      ['a negative size', (p) => (p.calls[0]!.tensors[0]!.shape = [1, 1, -2, 1, 3]), /axis 2 has size -2/],
      [
        'sizes whose product overflows',
        (p) => (p.calls[0]!.tensors[0]!.shape = [2 ** 32, 2 ** 32, 1, 1, 3]),
        /larger than any memory/,
      ],
      [
        'strides whose product overflows',
        (p) => Object.assign(p.calls[0]!.tensors[0]!, { shape: [2 ** 30, 1, 1, 1, 1], ld: 2 ** 40, bytes: 4 }),
        /larger than any memory/,
      ],
      [
        'a stride below the channels',
        (p) => Object.assign(p.calls[0]!.tensors[0]!, { ld: 2, bytes: 20 }),
        /row stride 2 for 3 channels/,
      ],
      ['a segment that does not exist', (p) => (p.calls[0]!.tensors[0]!.segment = 4), /segment 4 does not exist/],
      [
        'a dtype that does not exist',
        (p) => Object.assign(p.calls[0]!.tensors[0]!, { dtype: 9, bytes: 6 }),
        /dtype 9 does not exist/,
      ],
      ['a dtype that the kernel does not take', (p) => (p.calls[0]!.tensors[0]!.dtype = 6), /fill_fwd\): has /],
      [
        'an absent tensor that is not optional',
        (p) => (p.calls[0]!.tensors[0] = null as never),
        /tensor y: is missing/,
      ],
      ['too few tensors', (p) => p.calls[1]!.tensors.pop(), /tensor y: is missing/],
      ['too many tensors', (p) => p.calls[1]!.tensors.push(p.calls[1]!.tensors[0]!), /3 tensors, expected 2/],
      [
        'shapes that do not fit each other',
        (p) => (p.calls[1]!.tensors[1]!.shape = [1, 1, 1, 3, 2]),
        /copy_fwd\): has shapes/,
      ],
      ['too many attributes', (p) => p.calls[0]!.attrs.push(1), /16 bytes of attributes, expected 8/],
      ['no attributes', (p) => p.calls[0]!.attrs.pop(), /0 bytes of attributes, expected 8/],
      ['a kernel that does not exist', (p) => (p.calls[0]!.kernel = 'fill_fwd2'), /has no kernel fill_fwd2/],
      ['compute after commit', (p) => p.calls.reverse(), /instruction 1 \(fill_fwd\): computes after the commit phase/],
      ['a guard outside its segment', (p) => (p.guard = { segment: IO, offset: 4096 }), /guard/],
      ['a crooked guard', (p) => (p.guard = { segment: IO, offset: 2 }), /guard/],
      ['a guard in a segment that does not exist', (p) => (p.guard = { segment: 7, offset: 0 }), /guard/],
      ['a session that is too small', (p) => (p.sizes = [64, 1 << 20, 64, 0]), /needs 1048576 bytes of scratch/],
      ['a negative session size', (p) => (p.sizes = [64, 64, -1, 0]), /needs -1 bytes of io/],
    ];
    it.each(cases)('refuses %s', (_, change, message) =>
      withSession(sizes(), async (s) => {
        s.load(encode(good()));
        const bad = good();
        change(bad as Parameters<Change>[0]);
        await expectCode('program', () => s.load(encode(bad)), message);
      }),
    );

    it('refuses a program cut short anywhere, or with bytes after its end', () =>
      withSession(sizes(), async (s) => {
        const bytes = encode(good());
        for (let n = 0; n < bytes.length; n++) await expectCode('program', () => s.load(bytes.subarray(0, n)));
        await expectCode('program', () => s.load(new Uint8Array([...bytes, ...new Uint8Array(8)])), /after the last/);
      }));

    it('survives damaged programs: each loads or is refused as a program', () =>
      withSession(sizes(), async (s) => {
        const bytes = encode(good());
        let seed = 12345;
        const random = (n: number) => (seed = (Math.imul(seed, 1664525) + 1013904223) >>> 0) % n;
        let refused = 0;
        for (let i = 0; i < 1500; i++) {
          const bad = bytes.slice();
          for (let k = 0; k <= random(3); k++) bad[random(bad.length)] = random(4) === 0 ? 255 : random(256);
          try {
            s.load(bad);
          } catch (error) {
            expect(error).toMatchObject({ code: 'program' });
            refused++;
          }
        }
        expect(refused).toBeGreaterThan(500);
      }));

    it('refuses a program of another session', () =>
      withSession(sizes(), async (s) => {
        await withSession(sizes(), async (other) => {
          await expectCode('state', () => s.run(other.load(encode({ calls: [] }))), /not loaded in this session/);
        });
      }));
  });

  describe('memory', () => {
    it('refuses bytes outside a segment', () =>
      withSession(sizes(), async (s) => {
        await expectCode('state', () => s.write('io', 4090, new Uint8Array(7)), /segment io/);
        await expectCode('state', () => s.read('io', -1, 2), /segment io/);
        await expectCode('state', () => s.read('io', 0.5, 2), /segment io/);
        await expectCode('state', () => s.read('store', 0, 1), /segment store/);
        expect(s.read('store', 0, 0).length).toBe(0);
      }));

    it('reads copies and writes copies', () =>
      withSession(sizes(), async (s) => {
        const bytes = new Uint8Array([1, 2, 3]);
        s.write('io', 5, bytes.subarray(1));
        bytes.fill(9);
        const seen = s.read('io', 4, 4);
        s.write('io', 4, new Uint8Array(4));
        expect([...seen]).toEqual([0, 2, 3, 0]);
      }));

    it('says what is needed and what is free before it takes anything', async () => {
      const error = await expectCode('memory', () => backend.createSession(sizes({ store: 2 ** 50 })), /needed.*free/);
      expect(error.details.neededBytes).toBeGreaterThan(2 ** 50);
      expect(error.details.freeBytes).toBeGreaterThan(0);
      expect(error.details.freeBytes).toBeLessThan(2 ** 50);
      expect(backend.info.maxBytes).toBeGreaterThan(0);
      expect(backend.info.hostFreeBytes).toBeGreaterThan(0);
      expect(backend.info.hostFreeBytes).toBeLessThan(2 ** 50);
      await withSession(sizes(), async (s) => void (await s.run(s.load(encode({ calls: [] })))));
    });

    it('refuses sizes that are no sizes', async () => {
      await expectCode('state', () => backend.createSession(sizes({ io: -1 })), /segment io/);
      await expectCode('state', () => backend.createSession(sizes({ io: NaN })), /segment io/);
    });
  });

  describe('options', () => {
    it('refuses thread counts that are none', async () => {
      for (const threads of [0, 1.5, -1, 5000]) await expectCode('device', () => open({ threads }), /threads/);
    });
    it('asks for the fusions that it is told to ask for', async () => {
      const b = await openWith({ threads: 1, fusions: ['concat'] });
      expect([...b.info.fusions]).toEqual(['concat']);
    });
    it('refuses weights packed for kernels that there are none of', async () => {
      const [type, real] = backend.info.real === 'f32' ? [F32, 'f32' as const] : [F64, 'f64' as const];
      for (const [kernel, attrs] of [
        ['conv3d_pack', [0, 1, 1, 1]],
        ['upconv3d_pack', [0]],
      ] as const) {
        const w = tensor(STATE, type, 0, 3, 2, 1, 1, 1);
        const bytes = backend.opaqueBytes(
          kernel,
          [
            { shape: w.shape, ld: 1, dtype: real },
            { shape: [1, 1, 1, 1, 1], ld: 1, dtype: 'u8' },
          ],
          new Uint8Array(8 * (attrs.length + 2)),
          1,
        );
        const load = (s: Session, variant: number, dtype: number = type) =>
          s.load(
            encode({
              calls: [
                {
                  kernel,
                  tensors: [w, tensor(SCRATCH, U8, 0, bytes, 1, 1, 1, 1)],
                  attrs: [...attrs, variant, dtype],
                  whole: true,
                },
              ],
            }),
          );
        await withSession(sizes(), async (s) => {
          await s.run(load(s, 0));
          for (const variant of [1, -1, 2 ** 40])
            await expectCode('program', () => load(s, variant), /_pack\): has an attribute that it does not take/);
          // For activations of a dtype that it has no kernels for: the other of fp32 and float64, float16, bf16 where it lacks that.
          const lacks = type === F64 || !backend.info.precisions.includes('bf16') ? [5] : [];
          for (const dtype of [1 - type, 4, ...lacks])
            await expectCode('program', () => load(s, 0, dtype), /_pack\): has a dtype that it does not take/);
        });
      }
    });
    it('says where buffers begin, and that no kernel of today wants memory of its own for each thread', async () => {
      expect(backend.info.alignment).toBe(backend.info.name.startsWith('cuda') ? 256 : 64);
      await withSession(sizes(), async (s) => {
        await s.run(s.load(longProgram(2, 4096)));
        expect(s.scratchBytes).toBe(0);
      });
    });
    it('says what each instruction of the last run took, where it knows', () =>
      withSession(sizes(), async (s) => {
        expect(s.times()).toHaveLength(0);
        for (const count of [2, 5]) {
          const before = performance.now();
          await s.run(s.load(longProgram(count, 4096)));
          const times = s.times();
          if (!timed) expect(times).toHaveLength(0);
          else {
            expect(times).toHaveLength(count + 1); // and the commit
            expect(times.every((ms) => ms > 0)).toBe(true);
            expect(times.reduce((sum, ms) => sum + ms, 0)).toBeLessThan(performance.now() - before);
          }
        }
      }));
    it('refuses opaque sizes of what is not opaque', async () => {
      const t = { shape: [1, 1, 1, 1, 4], ld: 4, dtype: 'f32' as const };
      const attrs = new Uint8Array(8);
      const huge = { shape: [2 ** 40, 2 ** 40, 1, 1, 1], ld: 1, dtype: 'f32' } as const;
      await expectCode(
        'program',
        () => backend.opaqueBytes('conv3d_pack', [huge, huge], new Uint8Array(48), 1),
        /memory/,
      );
      await expectCode('program', () => backend.opaqueBytes('fill_fwd', [t], attrs, 0), /not opaque/);
      await expectCode('program', () => backend.opaqueBytes('nothing', [t], attrs, 0), /no kernel nothing/);
      await expectCode('program', () => backend.opaqueBytes('fill_fwd', [t, t], attrs, 0), /2 tensors, expected 1/);
    });
    it('refuses everything once it is closed', async () => {
      const b = await open({ threads: 1 });
      const s = await b.createSession(sizes());
      await b.close();
      await expectCode('state', () => b.createSession(sizes()), /closed/);
      await expectCode('state', () => s.load(encode({ calls: [] })), /closed/);
    });
  });
}
