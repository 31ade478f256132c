/**
 * Fine-tuned models ready to segment volumes: one, or several whose mean is taken. Calls run side by side and take turns
 * with every tile, so that a small volume does not wait behind a large one. Volumes are typed arrays with a grid; files are
 * in `predict.ts`.
 */
import type { NetworkOptions } from './network.js';
import type { Backend, Host } from '../backend/types.js';
import type { FinetuneConfig } from '../settings/types.js';
import { Breather, throwIfAborted } from '../breathe.js';
import { axisOrder, permuteVoxels } from '../data/prepare/steps.js';
import { FLOAT32_MAX } from '../half.js';
import { NOT_FINITE, type Volume } from '../volume.js';
import { MaclError, memoryError } from '../errors.js';
import type { OptionKinds } from '../options.js';
import { isArrayOf } from '../realm.js';
import { keepLargestComponents } from '../segment/components.js';
import { mirrorAxesOf, type LoadedModel, type ModelClass } from '../model/description.js';
import { Network, type WindowOptions } from './network.js';
import { largestOf, RowMean } from './row-mean.js';
import { Turns, untilAborted } from './turns.js';

export interface SegmentOptions {
  /** Average over mirrored tiles too, on the axes that training mirrored; a model that mirrored none is refused. */
  readonly mirror?: boolean | undefined;
  /** Keep the largest connected part of each class and make the rest background. Probabilities stay as they are. */
  readonly largestComponent?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  /** For messages. */
  readonly name?: string | undefined;
  /** What is worth saying of the volume: a voxel that flattens all others, say. */
  readonly onWarning?: ((message: string) => void) | undefined;
  /** Tiles that are done, and all of them. */
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  /** Softmax probabilities [H, W, class] of each row along the RAS volume's slice axis, in order; reused. */
  readonly onProbabilities?: ((row: number, probabilities: Float32Array) => void | Promise<void>) | undefined;
}

export const SEGMENT_OPTIONS: OptionKinds<SegmentOptions> = {
  mirror: 'flag',
  largestComponent: 'flag',
  signal: 'signal',
  name: 'text',
  onWarning: 'function',
  onProgress: 'function',
  onProbabilities: 'function',
};

/** How long `close` waits for a callback of the caller's that has not settled. */
const CALLBACK_GRACE_MS = 1000;

/** One call, from its beginning to its end. */
class Call {
  private readonly controller = new AbortController();
  private readonly unlink: () => void;
  private finish = (): void => undefined;
  readonly done = new Promise<void>((resolve) => (this.finish = resolve));
  /** Bytes that it takes; 0 while it waits for them. */
  reservedBytes = 0;
  /** When a callback of the caller's began that has not settled. */
  callbackSince: number | null = null;

  constructor(signal: AbortSignal | undefined) {
    const stop = (): void => this.controller.abort(signal?.reason);
    signal?.addEventListener('abort', stop, { once: true });
    this.unlink = () => signal?.removeEventListener('abort', stop);
  }

  get signal(): AbortSignal {
    return this.controller.signal;
  }
  stop(reason: unknown): void {
    this.controller.abort(reason);
  }
  end(): void {
    this.unlink();
    this.finish();
  }

  /** What the caller's callback returns is waited for, but no longer than the call lasts. */
  async callBack(callback: () => void | PromiseLike<void>): Promise<void> {
    const result = callback();
    if (typeof result?.then !== 'function') return;
    this.callbackSince = performance.now();
    try {
      await untilAborted(result, this.signal);
    } finally {
      this.callbackSince = null;
    }
  }
}

export class Predictor {
  private readonly calls = new Set<Call>();
  private closing: Promise<void> | null = null;

  private constructor(
    private readonly networks: readonly Network[],
    private readonly maxQueue: number,
    /** Of whose memory volumes, labels and probabilities are. */
    readonly host: Host,
  ) {}

  /**
   * @param models one, or several of the same classes and channels, whose probabilities are averaged
   * @param options maxQueue: the most calls that may be pending at once
   */
  static async open(
    models: readonly LoadedModel<FinetuneConfig>[],
    backend: Backend,
    options: NetworkOptions & { readonly maxQueue?: number | undefined } = {},
  ): Promise<Predictor> {
    checkEnsemble(models);
    const turns = new Turns();
    const networks: Network[] = [];
    try {
      for (const model of models) networks.push(await Network.open(model, backend, turns, options));
      return new Predictor(networks, options.maxQueue ?? Infinity, backend.info);
    } catch (error) {
      await Promise.allSettled(networks.map((n) => n.close()));
      throw error;
    }
  }

  /** The first one: classes and channels are those of all. */
  get model(): LoadedModel<FinetuneConfig> {
    return this.networks[0]!.model;
  }
  get classes(): readonly ModelClass[] {
    return this.model.classes;
  }
  get models(): readonly LoadedModel<FinetuneConfig>[] {
    return this.networks.map(({ model }) => model);
  }
  /** Calls that have not ended. */
  get pending(): number {
    return this.calls.size;
  }

  /**
   * Class indices on the volume's own (RAS) grid, [D, H, W]. Voxels must stay as they are until it ends. Rejects with
   * MaclError: `aborted` within a tile of an abort, `busy` where `maxQueue` calls are pending, `state` once closed.
   */
  segment(volume: Volume, options: SegmentOptions = {}): Promise<Uint8Array> {
    return this.use(options.signal, (call) => this.segmentIn(call, volume, options));
  }

  /** A call that does more than `segmentIn`: it is pending, and can be aborted, from now until `work` has ended. */
  async use<T>(signal: AbortSignal | undefined, work: (call: Call) => Promise<T>): Promise<T> {
    if (this.closing) throw new MaclError('state', 'it is closed: nothing is segmented any more');
    if (this.calls.size >= this.maxQueue) {
      const details = { field: 'maxQueue', expected: this.maxQueue, found: this.calls.size + 1 };
      throw new MaclError('busy', `${this.calls.size} calls are pending, as many as maxQueue allows`, details);
    }
    throwIfAborted(signal);
    const call = new Call(signal);
    this.calls.add(call);
    try {
      return await work(call);
    } finally {
      this.calls.delete(call);
      call.end();
    }
  }

  /** What can be known before anything is computed. */
  private check({ channels }: Volume, options: SegmentOptions): void {
    const names = this.model.channelNames;
    if (channels !== names.length)
      throw new MaclError(
        'dataset',
        `${options.name ?? 'volume'}: channels: the model takes ${names.length} (${names.join(', ')}), found ${channels}`,
        {
          field: 'channels',
          expected: names.length,
          found: channels,
          ...(options.name ? { file: options.name } : {}),
        },
      );
    if (options.mirror) for (const { model } of this.networks) mirrorAxesOf(model);
  }

  /** `segment` within a call of `use`. */
  async segmentIn(call: Call, volume: Volume, options: SegmentOptions): Promise<Uint8Array> {
    this.check(volume, options);
    const { signal } = call;
    const name = options.name ?? 'volume';
    const { nonFinite, sliceAxis } = this.model.config.data;
    const finite = await finiteVolume(volume, nonFinite, name, new Breather(signal));
    await this.reserve(call, finite, options);
    const { onProbabilities } = options;
    const common = { name, mirror: options.mirror ?? false, onWarning: options.onWarning };
    const labels =
      this.networks.length === 1
        ? await this.networks[0]!.window(finite, {
            ...common,
            signal,
            onProgress: options.onProgress,
            onProbabilities: onProbabilities && ((row, p) => call.callBack(() => onProbabilities(row, p))),
          })
        : await this.average(finite, { ...common, signal, onProgress: options.onProgress }, onProbabilities, call);
    const breath = new Breather(signal);
    const own = await permuteVoxels(labels, 1, finite.grid.shape, axisOrder(sliceAxis), breath, true);
    if (options.largestComponent) await keepLargestComponents(own, finite.grid.shape, this.classes.length, breath);
    return own;
  }

  /** All models side by side, row by row: no volume of probabilities is ever held. */
  private async average(
    volume: Volume,
    options: WindowOptions,
    onProbabilities: SegmentOptions['onProbabilities'],
    call: Call,
  ): Promise<Uint8Array> {
    const { networks } = this;
    const classes = this.classes.length;
    const [depth, height, width] = networks[0]!.shapes(volume)[0];
    const labels = new Uint8Array(depth * height * width);
    const mean = new RowMean(networks.length, height * width * classes, async (row, values) => {
      largestOf(values, classes, labels, row * height * width);
      if (onProbabilities) await call.callBack(() => onProbabilities(row, values));
    });
    const done = networks.map(() => 0);
    const totals = networks.map(() => 0);
    const progress = (m: number, value: number, total: number): void => {
      [done[m], totals[m]] = [value, total];
      const sum = (all: readonly number[]): number => all.reduce((a, b) => a + b, 0);
      if (totals.every((t) => t > 0)) options.onProgress?.(sum(done), sum(totals));
    };
    let first: { error: unknown } | undefined;
    await Promise.all(
      networks.map((network, m) =>
        network
          .window(volume, {
            ...options,
            // Models of one training say the same of a volume: once is enough.
            onWarning: m === 0 ? options.onWarning : undefined,
            onProgress: (value, total) => progress(m, value, total),
            onProbabilities: (row, p) => untilAborted(mean.give(m, row, p), call.signal),
          })
          .catch((error: unknown) => {
            first ??= { error };
            // The others would wait for its rows for ever.
            call.stop(error);
          }),
      ),
    );
    if (first) throw first.error;
    return labels;
  }

  /** Waits until there is memory for the call beside the others; alone it is refused where there is too little. */
  private async reserve(call: Call, volume: Volume, options: SegmentOptions): Promise<void> {
    const needed = this.networks.reduce(
      (sum, n) => sum + n.windowBytes(volume, this.networks.length > 1 || options.onProbabilities !== undefined),
      0,
    );
    for (;;) {
      const others = [...this.calls].filter((other) => other !== call && other.reservedBytes > 0);
      const reserved = others.reduce((sum, other) => sum + other.reservedBytes, 0);
      const free = this.host.hostFreeBytes;
      if (needed + reserved <= free || (others.length === 0 && needed <= free)) break;
      if (others.length === 0) {
        const file = options.name;
        const shape = this.networks[0]!.shapes(volume)[1].join('×');
        const what = `${file ?? 'volume'}: ${shape} voxels at the model's spacing`;
        throw memoryError(what, needed, free, file === undefined ? {} : { file });
      }
      await untilAborted(Promise.race(others.map((other) => other.done)), call.signal);
    }
    call.reservedBytes = needed;
  }

  /** Waits for the calls that are pending (not for their callers' callbacks), then gives the memory back. */
  close(): Promise<void> {
    this.closing ??= this.end();
    return this.closing;
  }

  private async end(): Promise<void> {
    while (this.calls.size > 0) {
      for (const call of this.calls)
        if (call.callbackSince !== null && performance.now() - call.callbackSince > CALLBACK_GRACE_MS)
          call.stop(new MaclError('aborted', 'it was closed while onProbabilities had not settled'));
      let timer: ReturnType<typeof setTimeout> | undefined;
      const soon = new Promise<void>((resolve) => (timer = setTimeout(resolve, CALLBACK_GRACE_MS / 20)));
      await Promise.race([Promise.all([...this.calls].map((call) => call.done)), soon]);
      clearTimeout(timer);
    }
    const closed = await Promise.allSettled(this.networks.map((n) => n.close()));
    for (const one of closed) if (one.status === 'rejected') throw one.reason;
  }
}

/** Models whose mean means something: one set of classes, one set of channels, rows along one axis. */
function checkEnsemble(models: readonly LoadedModel<FinetuneConfig>[]): void {
  const [first, ...others] = models;
  if (!first) throw new MaclError('config', 'model: expected one or more', { field: 'model' });
  for (const model of others) {
    for (const [field, of] of [
      ['classes', (m: typeof model) => m.classes.map((c) => c.value).join(', ')],
      ['channels', (m: typeof model) => String(m.channelNames.length)],
      ['data.sliceAxis', (m: typeof model) => m.config.data.sliceAxis],
    ] as const) {
      const [expected, found] = [of(first), of(model)];
      if (expected === found) continue;
      const words = `${model.file}: ${field}: models of one ensemble have the same: expected ${expected} as in ${first.file}, found ${found}`;
      throw new MaclError('config', words, { file: model.file, field, expected, found });
    }
  }
}

/** Voxels between two looks at the clock. */
const BLOCK = 1 << 16;

/** The same volume, or one with zeros where voxels are not finite; files are checked already when they are read. */
async function finiteVolume(volume: Volume, rule: 'refuse' | 'zero', name: string, breath: Breather): Promise<Volume> {
  const { voxels } = volume;
  if (!isArrayOf(voxels, 'Float32Array', 'Float64Array')) return volume;
  let found = 0;
  let zeroed: typeof voxels | null = null;
  for (let start = 0; start < voxels.length; start += BLOCK) {
    const end = Math.min(start + BLOCK, voxels.length);
    for (let i = start; i < end; i++) {
      if (Math.abs(voxels[i]!) <= FLOAT32_MAX) continue;
      found++;
      if (rule === 'zero') (zeroed ??= voxels.slice())[i] = 0;
    }
    await breath.maybe();
  }
  if (found === 0) return volume;
  if (zeroed) return { ...volume, voxels: zeroed };
  throw new MaclError(
    'dataset',
    `${name}: voxels: ${found} are ${NOT_FINITE} (a model trained with data.nonFinite "zero" takes them for 0)`,
    {
      field: 'voxels',
      found,
    },
  );
}
