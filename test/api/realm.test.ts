/** Values of another realm (Jest, vm, Electron), and errors of another copy of the package, are what they are. */
import { createRequire } from 'node:module';
import { join } from 'node:path';
import { pathToFileURL } from 'node:url';
import vm from 'node:vm';
import { describe, expect, it } from 'vitest';
import { asFileError, systemCode } from '../../src/data/files.js';
import { datatypeOf } from '../../src/data/nifti/header.js';
import { rawTensor } from '../../src/data/safetensors.js';
import { MaclError } from '../../src/errors.js';
import { checkOptions, showValue, type OptionKinds } from '../../src/options.js';
import { packageRoot } from '../../src/paths.js';
import { arrayKind, copyOf, emptyLike, isArrayOf, messageOf } from '../../src/realm.js';
import { nearest } from '../../src/suggest.js';

const foreign = <T>(code: string): T => vm.runInNewContext(code, { AbortController, AbortSignal }) as T;

describe('a typed array of another realm', () => {
  it.each([
    ['Int8Array', 'int8', 'I8'],
    ['Uint8Array', 'uint8', 'U8'],
    ['Int16Array', 'int16', 'I16'],
    ['Uint16Array', 'uint16', 'U16'],
    ['Int32Array', 'int32', 'I32'],
    ['Uint32Array', 'uint32', 'U32'],
    ['Float32Array', 'float32', 'F32'],
    ['Float64Array', 'float64', 'F64'],
  ] as const)('is one: %s', (kind, nifti, safetensors) => {
    const values = foreign<Float32Array>(`${kind}.of(1, 2, 3)`);
    expect(values instanceof Float32Array).toBe(false);
    expect(arrayKind(values)).toBe(kind);
    expect(isArrayOf(values, kind)).toBe(true);
    expect(datatypeOf(values)).toBe(nifti);
    expect(rawTensor(values, [3]).dtype).toBe(safetensors);
    expect(emptyLike(values, 2)).toEqual(new (globalThis[kind] as typeof Float32Array)(2));
    const copy = copyOf(values);
    values[0] = 9;
    expect(Array.from(copy)).toEqual([1, 2, 3]);
  });

  it('is not what it only looks like', () => {
    for (const value of [new DataView(new ArrayBuffer(8)), new BigInt64Array(1), [1], { length: 1 }, null, 'x'])
      expect(arrayKind(value)).toBeUndefined();
    const lies: unknown = Object.create(Float32Array.prototype);
    expect(arrayKind(lies)).toBeUndefined();
    expect(() => datatypeOf(new BigInt64Array(1) as never)).toThrow(MaclError);
  });

  it('a Buffer becomes a Uint8Array', () => {
    const copy = copyOf(Buffer.from([1, 2]) as Uint8Array);
    expect(Object.getPrototypeOf(copy)).toBe(Uint8Array.prototype);
  });
});

describe('an error', () => {
  it('of another realm keeps its code and its words', () => {
    const error = foreign<Error>(`Object.assign(new Error('no space'), { code: 'ENOSPC' })`);
    expect([systemCode(error), messageOf(error)]).toEqual(['ENOSPC', 'no space']);
    expect(asFileError(error, 'x', 'write').message).toMatch(/x: write: no space left on the device/);
    for (const odd of [undefined, null, 7, 'text', Object.create(null) as object, { message: 5 }])
      expect(typeof messageOf(odd)).toBe('string');
  });

  it('of the CommonJS build is a MaclError of the ESM build, and the other way round', async ({ skip }) => {
    const load = (file: string) => join(packageRoot(), 'dist', file);
    const cjs = ((): typeof import('../../src/index.js') | null => {
      try {
        return createRequire(import.meta.url)(load('index.cjs')) as typeof import('../../src/index.js');
      } catch {
        return null;
      }
    })();
    if (!cjs) return skip('dist is not built');
    const esm = (await import(pathToFileURL(load('index.js')).href)) as typeof import('../../src/index.js');
    expect(esm.MaclError).not.toBe(cjs.MaclError);
    for (const a of [esm, cjs])
      for (const b of [esm, cjs]) expect(new a.MaclError('file', 'x')).toBeInstanceOf(b.MaclError);
    expect(new Error('x')).not.toBeInstanceOf(esm.MaclError);
    expect({ name: 'MaclError', code: 'file' }).not.toBeInstanceOf(esm.MaclError);
  });

  it('of an abort is an AbortError', () => {
    expect(new MaclError('aborted', 'x')).toMatchObject({ name: 'AbortError', code: 'aborted' });
    expect(new MaclError('file', 'x').name).toBe('MaclError');
  });
});

describe('options', () => {
  interface Some {
    labels?: string;
    steps?: number;
    device?: 'cpu' | 'wasm';
    signal?: AbortSignal;
    onEvent?: () => void;
  }
  const KINDS: OptionKinds<Some> = {
    labels: 'text',
    steps: 'count',
    device: ['cpu', 'wasm'],
    signal: 'signal',
    onEvent: 'function',
  };
  const failure = (given: unknown, required: (keyof Some)[] = [], elsewhere: string[] = []): MaclError => {
    try {
      checkOptions('run', given, KINDS, required, elsewhere);
    } catch (error) {
      return error as MaclError;
    }
    throw new Error('nothing was thrown');
  };

  it.each([
    [{ lables: 'x' }, 'lables', /unknown option; did you mean labels\?/],
    [{ devcie: 'cpu' }, 'devcie', /did you mean device\?/],
    [{ onevent: 1 }, 'onevent', /did you mean onEvent\?/],
    [{ zebra: 1 }, 'zebra', /unknown option \(known here: labels, steps/],
    [JSON.parse('{"__proto__": 1}'), '__proto__', /unknown option/],
    [{ device: 'cup' }, 'device', /expected cpu or wasm, found "cup"; did you mean cpu\?/],
    [{ steps: -1 }, 'steps', /whole number of at least 0, found -1/],
    [{ steps: 5n }, 'steps', /found 5n/],
    [
      { signal: new AbortController() },
      'signal',
      /expected an AbortSignal, found an AbortController \(give its signal\)/,
    ],
    [{ signal: null }, 'signal', /found null/],
    [null, '', /run: expected an object with options, found null/],
    [['labels'], '', /found \["labels"\]/],
  ])('%o is refused', (given, field, message) => {
    const error = failure(given);
    expect([error.code, error.details.field]).toEqual(['config', field]);
    expect(error.message).toMatch(message);
  });

  it('that are missing are named; those that belong elsewhere are shown there', () => {
    expect(failure({}, ['labels']).message).toBe('run: labels: expected text, found nothing');
    expect(failure({ lr: 1 }, [], ['config.optimizer.lr']).message).toMatch(/did you mean config\.optimizer\.lr\?/);
  });

  it('of another realm, absent or undefined, pass', () => {
    const { signal } = foreign<AbortController>('new AbortController()');
    for (const given of [{}, { labels: undefined }, { signal }, foreign<object>('({ steps: 3, labels: "x" })')])
      checkOptions('run', given, KINDS);
  });

  it('show anything, and suggest only what is near', () => {
    const circle: Record<string, unknown> = {};
    circle['self'] = circle;
    const ring: unknown[] = [];
    ring.push(ring);
    for (const value of [circle, ring, Symbol('x'), 1n, () => 1, Object.create(null), NaN, new Map()])
      expect(showValue(value).length).toBeGreaterThan(0);
    expect(nearest('lables', ['labels', 'label-glob'])).toBe('labels');
    expect(nearest('zz', ['labels'])).toBeUndefined();
    expect(nearest('x'.repeat(10_000), ['labels'])).toBeUndefined();
  });
});
