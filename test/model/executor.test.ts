/**
 * One write and one read of `io` a run, each slot in its own dtype, programs that share `io` without harm, input that is given
 * while a program runs, and large tensors that are moved without a copy.
 */
import { afterAll, beforeAll, describe, expect, it } from 'vitest';
import { openBackend } from '../../src/backend/choose.js';
import type { Backend, RunOptions, Session } from '../../src/backend/types.js';
import { Breather } from '../../src/breathe.js';
import { MaclError } from '../../src/errors.js';
import { GraphBuilder } from '../../src/graph/builder.js';
import { compile, type CompiledProgram, type IoSlot } from '../../src/graph/compile.js';
import { DTYPE_BYTES, DTYPES, type DType, type SegmentName, type Tensor } from '../../src/graph/types.js';
import { Executor } from '../../src/model/executor.js';
import { Staging } from '../../src/model/staging.js';
import '../../src/ops/index.js';
import { reportCpu } from '../../src/backend/cpu.js';

const device = reportCpu().available ? 'cpu' : 'wasm';
const NO_STATE = { offsets: new Map<Tensor, number>(), bytes: 0 };
const errorOf = async (f: () => unknown): Promise<MaclError> => {
  const error = await (async () => f())().catch((e: unknown) => e);
  expect(error).toBeInstanceOf(MaclError);
  return error as MaclError;
};

type Call = readonly [what: 'write' | 'read', segment: SegmentName, offset: number, bytes: number];
/** Passes calls on and writes them down; `onRun` is called when a run has begun. */
function watched(session: Session, calls: Call[], onRun: () => void): Session {
  return {
    sizes: session.sizes,
    scratchBytes: session.scratchBytes,
    times: () => session.times(),
    load: (bytes) => session.load(bytes),
    write(segment, offset, bytes) {
      calls.push(['write', segment, offset, bytes.length]);
      session.write(segment, offset, bytes);
    },
    read(segment, offset, bytes) {
      calls.push(['read', segment, offset, bytes]);
      return session.read(segment, offset, bytes);
    },
    run(program, options?: RunOptions) {
      const running = session.run(program, options);
      onRun();
      return running;
    },
    close: () => session.close(),
  };
}

let real: Backend;
beforeAll(async () => {
  real = await openBackend(device, { threads: 1 });
});
afterAll(() => real.close());

async function open(programs: readonly CompiledProgram[], storeBytes = 0) {
  const calls: Call[] = [];
  const hooks = { onRun: (): void => undefined };
  const backend: Backend = {
    info: real.info,
    opaqueBytes: (...args) => real.opaqueBytes(...args),
    createSession: async (sizes) => watched(await real.createSession(sizes), calls, () => hooks.onRun()),
    close: () => Promise.resolve(),
  };
  const executor = await Executor.open(backend, programs, new Uint8Array(0), storeBytes);
  calls.length = 0;
  return { executor, calls, hooks };
}

/** sum = a + b + c with c a constant, twice = 2·sum; `large` adds values in and out that have no copy on the host. */
function adding(constant: number, large = 0): CompiledProgram {
  const b = new GraphBuilder(real.info.real);
  const one = [1, 1, 1, 1, 1] as const;
  const add = (x: Tensor, y: Tensor, name: string): Tensor => {
    const out = b.tensor(name, x.shape);
    b.emit('add_fwd', {}, { a: x, b: y }, { y: out });
    return out;
  };
  const given = add(b.input('a', one), b.input('b', one), 'given');
  const sum = b.output(add(given, b.constant('c', [constant], real.info.real), 'sum'), 'sum');
  b.output(add(sum, sum, 'twice'), 'twice');
  if (large > 0) {
    const x = b.input('x', [1, 1, 1, 1, large]);
    b.output(add(x, x, 'xx'), 'xx');
  }
  return compile(b.finish(), real, NO_STATE, 0);
}

describe('a run', () => {
  it('is one write of all input and one read of all results', async () => {
    const program = adding(3);
    const { executor, calls } = await open([program]);
    for (let step = 1; step < 4; step++) {
      calls.length = 0;
      executor.set(program, 'a', [step]);
      if (step === 1) executor.set(program, 'b', [10]);
      expect(calls).toEqual([]);
      await executor.run(program);
      expect(executor.scalar(program, 'sum')).toBe(step + 10 + 3);
      expect([...executor.get(program, 'twice')]).toEqual([2 * (step + 13)]);
      expect(calls.map(([what, segment]) => [what, segment])).toEqual([
        ['write', 'io'],
        ['read', 'io'],
      ]);
    }
    await executor.close();
  });

  it('of one program leaves the input and the results of another, whose io is the same bytes', async () => {
    const [first, second] = [adding(3), adding(1000)];
    const { executor } = await open([first, second]);
    executor.set(first, 'a', [1]);
    executor.set(second, 'a', [500]);
    await executor.run(first);
    await executor.run(second);
    expect([executor.scalar(first, 'sum'), executor.scalar(second, 'sum')]).toEqual([4, 1500]);
    await executor.run(first);
    expect([executor.scalar(first, 'sum'), executor.scalar(second, 'sum')]).toEqual([4, 1500]);
    await executor.close();
  });

  it('has the input that was given before it; what is given while it runs is the next one’s', async () => {
    const program = adding(0);
    const { executor, hooks } = await open([program]);
    let next = 1;
    hooks.onRun = () => executor.set(program, 'a', [++next]);
    executor.set(program, 'a', [1]);
    for (const expected of [1, 2, 3]) {
      await executor.run(program);
      expect(executor.scalar(program, 'sum')).toBe(expected);
    }
    await executor.close();
  });

  it('that has not been, or was stopped, has no results', async () => {
    const program = adding(0);
    const { executor } = await open([program]);
    const missing = { code: 'state', message: 'sum: the program has not run, or its last run did not end' };
    expect(await errorOf(() => executor.get(program, 'sum'))).toMatchObject(missing);
    await executor.run(program);
    expect(executor.scalar(program, 'sum')).toBe(0);
    const stop = new AbortController();
    stop.abort();
    expect((await errorOf(() => executor.run(program, { signal: stop.signal }))).code).toBe('aborted');
    expect(await errorOf(() => executor.get(program, 'sum'))).toMatchObject(missing);
    await executor.close();
  });

  it('takes inputs by name and count, and no results', async () => {
    const program = adding(0);
    const { executor } = await open([program]);
    for (const [name, values, words] of [
      ['d', [1], /no input or result d$/],
      ['a', [1, 2], /^a: expected 1 numbers, found 2$/],
      ['sum', [1], /^sum is a result of the program, no input$/],
      ['c', [1], /^c is a constant of the program, no input$/],
    ] as const) {
      const error = await errorOf(() => executor.set(program, name, values));
      expect([error.code, error.message]).toEqual(['program', expect.stringMatching(words)]);
    }
    expect((await errorOf(() => executor.set(adding(0), 'a', [1]))).message).toMatch(/not loaded/);
    await executor.close();
  });
});

describe('a large tensor', () => {
  const COUNT = 2 ** 19;
  const values = Float32Array.from({ length: COUNT }, (_, i) => i % 1000);

  it('is moved in parts, between which the event loop has its turns, and is not held here', async () => {
    const program = adding(5, COUNT);
    const { executor, calls } = await open([program]);
    expect(new Staging(program).heldBytes).toBeLessThan(4096);
    let turns = 0;
    const timer = setInterval(() => turns++, 0);
    const breath = new Breather(undefined, 0);
    executor.set(program, 'a', [1]);
    await executor.setSlowly(program, 'x', values, breath);
    const { bytes } = program.io.get('x') as IoSlot;
    expect(calls.every(([what, , , length]) => what === 'write' && length <= bytes / 4)).toBe(true);
    expect(calls.reduce((sum, [, , , length]) => sum + length, 0)).toBe(bytes);
    calls.length = 0;
    await executor.run(program);
    expect(calls.every(([, segment, , length]) => segment === 'io' && length < 4096)).toBe(true);
    expect(executor.scalar(program, 'sum')).toBe(6);
    const out = new Float32Array(COUNT);
    await executor.getSlowly(program, 'xx', out, breath);
    clearInterval(timer);
    expect(out.every((v, i) => v === 2 * values[i]!)).toBe(true);
    expect(executor.get(program, 'xx')).toHaveLength(COUNT);
    expect(turns).toBeGreaterThan(0);
    await executor.close();
  });

  it('that is given ahead is the next run’s, and is written again only where it has to be', async () => {
    const [program, other] = [adding(0, COUNT), adding(7, COUNT)];
    const { executor, calls, hooks } = await open([program, other]);
    const first = () => executor.get(program, 'xx')[1];
    const written = () => calls.filter(([what, , , length]) => what === 'write' && length === 4 * COUNT).length;
    hooks.onRun = () =>
      executor.set(
        program,
        'x',
        values.map((v) => v + 1),
      );
    executor.set(program, 'x', values);
    await executor.run(program);
    hooks.onRun = () => undefined;
    expect([first(), written()]).toEqual([2, 1]);
    await executor.run(program);
    expect([first(), written()]).toEqual([4, 2]);
    await executor.run(program);
    expect([first(), written()]).toEqual([4, 2]);
    await executor.run(other);
    expect((await errorOf(first)).message).toMatch(/^xx: .*another program's input or run came between/);
    await executor.run(program);
    expect([first(), written()]).toEqual([4, 3]);
    expect([...executor.get(program, 'x').subarray(0, 2)]).toEqual([1, 2]);
    await executor.close();
  });

  it('in parts is refused while something runs, and lost where another program runs before its own', async () => {
    const [program, other] = [adding(0, COUNT), adding(0, COUNT)];
    const { executor, hooks } = await open([program, other]);
    const give = (to: CompiledProgram) => executor.setSlowly(to, 'x', values, new Breather());
    const errors: Promise<MaclError>[] = [];
    hooks.onRun = () => errors.push(errorOf(() => give(program)));
    await executor.run(program);
    expect((await errors[0]!).code).toBe('state');
    expect(executor.get(program, 'xx')).toHaveLength(COUNT);
    hooks.onRun = () => undefined;
    for (const between of [() => executor.run(other), () => give(other)]) {
      await give(program);
      await between();
      const error = await errorOf(() => executor.run(program));
      expect([error.code, error.message]).toEqual(['state', expect.stringMatching(/^x: .*another program/)]);
      await give(program);
      await executor.run(program);
      expect(executor.get(program, 'xx')[1]).toBe(2);
      // As often as one likes, while nothing comes between.
      await executor.run(program);
      expect(executor.get(program, 'xx')[1]).toBe(2);
    }
    await executor.close();
  });
});

it('bytes for the store are there at each run of their program, whatever another wrote meanwhile', async () => {
  const [first, second] = [adding(0), adding(1)];
  const { executor } = await open([first, second], 256);
  executor.setStore(first, [
    { offset: 0, bytes: Uint8Array.of(1, 2, 3) },
    { offset: 64, bytes: Uint8Array.of(4) },
  ]);
  executor.setStore(second, [{ offset: 1, bytes: Uint8Array.of(9, 9) }]);
  const inStore = () => [...executor.session.read('store', 0, 3), ...executor.session.read('store', 64, 1)];
  await executor.run(first);
  expect(inStore()).toEqual([1, 2, 3, 4]);
  await executor.run(second);
  expect(inStore()).toEqual([1, 9, 9, 4]);
  await executor.run(first);
  expect(inStore()).toEqual([1, 2, 3, 4]);
  await executor.close();
});

describe('slots of every dtype', () => {
  const dtypes = Object.keys(DTYPES) as DType[];
  const COUNT = 5;

  /** A program of nothing but io: inputs of each dtype side by side, without a gap, then results that a session echoes. */
  function echo(): { program: CompiledProgram; backend: Backend; io: Uint8Array } {
    const slots = new Map<string, IoSlot>();
    let at = 0;
    for (const role of ['input', 'result'] as const)
      for (const dtype of dtypes) {
        const bytes = COUNT * DTYPE_BYTES[dtype];
        slots.set(`${role} ${dtype}`, { offset: at, shape: [COUNT, 1, 1, 1, 1], dtype, bytes, role });
        at += bytes;
      }
    const io = new Uint8Array(at);
    const sizes = { state: 0, scratch: 0, io: at, store: 0 };
    const session: Session = {
      sizes,
      scratchBytes: 0,
      times: () => new Float64Array(),
      load: () => ({ id: 0 }),
      write: (segment, offset, bytes) => segment === 'io' && io.set(bytes, offset),
      read: (_, offset, bytes) => io.slice(offset, offset + bytes),
      run() {
        io.copyWithin(at / 2, 0, at / 2);
        return Promise.resolve({ committed: true });
      },
      close: () => Promise.resolve(),
    };
    const backend = { ...real, createSession: () => Promise.resolve(session) } as unknown as Backend;
    const program = { bytes: new Uint8Array(0), sizes, io: slots, constants: new Map() } as unknown as CompiledProgram;
    return { program, backend, io };
  }

  it('hold their numbers and leave their neighbours, in whatever order they are given', async () => {
    const { program, backend } = echo();
    const executor = await Executor.open(backend, [program], new Uint8Array(0));
    const values = dtypes.map((_, n) => Array.from({ length: COUNT }, (_, i) => n * 10 + i));
    for (const order of [[...dtypes.keys()], [...dtypes.keys()].reverse()])
      for (const n of order) executor.set(program, `input ${dtypes[n]}`, values[n]!);
    await executor.run(program);
    for (const [n, dtype] of dtypes.entries()) {
      expect([dtype, ...executor.get(program, `input ${dtype}`)]).toEqual([dtype, ...values[n]!]);
      expect([dtype, ...executor.get(program, `result ${dtype}`)]).toEqual([dtype, ...values[n]!]);
      const out = new Float32Array(COUNT);
      await executor.getSlowly(program, `result ${dtype}`, out, new Breather());
      expect([dtype, ...out]).toEqual([dtype, ...values[n]!]);
    }
    await executor.setSlowly(program, 'input bf16', Float32Array.from([9, 8, 7, 6, 5]), new Breather());
    expect([...executor.get(program, 'input bf16')]).toEqual([9, 8, 7, 6, 5]);
    expect([...executor.get(program, 'input u8')]).toEqual(values[dtypes.indexOf('u8')]);
  });
});
