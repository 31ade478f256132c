/**
 * A fine-tuned model ready to segment volumes: one inference program in one session, a sliding window around it. Volumes
 * are typed arrays with a grid; files are in `predict.ts`.
 */
import { freeBytes } from '../backend/limits-node.js';
import type { Backend } from '../backend/types.js';
import { axisOrder, permuteTriple, permuteVoxels, prepareVolume } from '../data/prepare-volume.js';
import { Breather, throwIfAborted } from '../data/breathe.js';
import { resampledShape } from '../data/resample.js';
import type { Triple, Volume } from '../data/volume.js';
import { MaclError, memoryError } from '../errors.js';
import { isArrayOf } from '../realm.js';
import { GraphBuilder } from '../graph/builder.js';
import { compile, type CompiledProgram } from '../graph/compile.js';
import { declareSegmentNetwork } from '../methods/network.js';
import { buildInference } from '../methods/segment.js';
import { type LabelArray, labelArrayType } from '../segment/label-values.js';
import { predictVolume, predictVolumeBytes, spacingMap, type AxisMap } from '../segment/sliding.js';
import { Executor } from './executor.js';
import type { LoadedModel } from './model-file.js';
import type { FinetuneConfig } from '../config/types.js';
import { weightsState } from './network-state.js';

export interface SegmentOptions {
  /** Average over mirrored tiles too, on the axes that training mirrored (all axes where it mirrored none). */
  readonly mirror?: boolean;
  readonly signal?: AbortSignal | undefined;
  /** For messages. */
  readonly name?: string;
  /** What is worth saying of the volume: a voxel that flattens all others, say. */
  readonly onWarning?: ((message: string) => void) | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  /** Softmax probabilities [H, W, class] of each row along the RAS volume's slice axis, in order; reused. */
  readonly onProbabilities?: ((row: number, probabilities: Float32Array) => void | Promise<void>) | undefined;
}

export class Predictor {
  private busy: Promise<unknown> = Promise.resolve();

  private constructor(
    readonly model: LoadedModel<FinetuneConfig>,
    private readonly executor: Executor,
    private readonly program: CompiledProgram,
  ) {}

  static async open(model: LoadedModel<FinetuneConfig>, backend: Backend): Promise<Predictor> {
    const { config } = model;
    const { real } = backend.info;
    const net = declareSegmentNetwork(config.model, null, real);
    const program = compile(buildInference(net, 1, config.data.patch, new GraphBuilder(real)), backend, net.state, 0);
    const state = weightsState(net.state, model.tensors, model.file);
    return new Predictor(model, await Executor.open(backend, [program], state), program);
  }

  /** Class indices on the volume's own (RAS) grid, [D, H, W]. Calls wait for one another, an aborted one no longer. */
  async segment(volume: Volume, options: SegmentOptions = {}): Promise<Uint8Array> {
    const { signal } = options;
    const before = this.busy;
    const turn = before.then(() => {
      throwIfAborted(signal);
      return this.run(volume, options);
    });
    this.busy = turn.catch(() => undefined);
    if (signal) await beforeAbort(before, signal);
    return turn;
  }

  private async run(volume: Volume, options: SegmentOptions): Promise<Uint8Array> {
    const { config, normalization, classes } = this.model;
    const { sliceAxis, spacingMm } = config.data;
    const tile = config.data.patch;
    const { signal } = options;
    const expected = this.model.channelNames.length;
    if (volume.channels !== expected)
      throw new MaclError(
        'dataset',
        `${options.name ?? 'volume'}: channels: the model takes ${expected} (${this.model.channelNames.join(', ')}), found ${volume.channels}`,
        { field: 'channels', expected, found: volume.channels, ...(options.name ? { file: options.name } : {}) },
      );
    const rules = volume.channels === 1 ? normalization.slice(0, 1) : normalization;
    const settings = { spacingMm, normalize: rules, sliceAxis };
    const finite = await finiteVolume(volume, config.data.nonFinite, options.name ?? 'volume', new Breather(signal));
    checkMemory(volume, this.model, options);
    const prepared = await prepareVolume(finite, settings, options.name ?? 'volume', signal);
    for (const words of prepared.warnings) options.onWarning?.(words);
    const mirrorAxes = !options.mirror ? [] : mirrorAxesOf(config);
    const order = axisOrder(sliceAxis);
    const { original, shape } = prepared;
    const input = new Float32Array(tile[0] * tile[1] * tile[2] * config.model.inChannels);
    const labels = await predictVolume({
      shape,
      tile,
      classes: classes.length,
      mirrorAxes,
      outShape: original.shape,
      mapOutToIn: [0, 1, 2].map((a) => axisMap(original, prepared, a)) as unknown as readonly [
        AxisMap,
        AxisMap,
        AxisMap,
      ],
      runTile: async (start, mirrored) => {
        fillTile(input, prepared.image, prepared.channels, config.model.inChannels, shape, tile, start, mirrored);
        this.executor.set(this.program, 'x', input);
        await this.executor.run(this.program, signal ? { signal } : {});
        const logits = this.executor.get(this.program, 'logits');
        return isArrayOf(logits, 'Float32Array') ? logits : Float32Array.from(logits);
      },
      ...(options.onProgress ? { onProgress: options.onProgress } : {}),
      ...(options.onProbabilities ? { onProbabilities: options.onProbabilities } : {}),
      ...(signal ? { signal } : {}),
    });
    return permuteVoxels(labels, 1, volume.grid.shape, order, new Breather(signal), true);
  }

  async close(): Promise<void> {
    await this.busy;
    await this.executor.close();
  }
}

/** Waits for `promise`, which never rejects, or rejects as soon as the signal is aborted. */
async function beforeAbort(promise: Promise<unknown>, signal: AbortSignal): Promise<void> {
  let done = (): void => undefined;
  const aborted = new Promise<void>((resolve) => (done = resolve));
  const stop = (): void => done();
  signal.addEventListener('abort', stop, { once: true });
  await Promise.race([promise, aborted]);
  signal.removeEventListener('abort', stop);
  throwIfAborted(signal);
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
      if (Number.isFinite(voxels[i])) continue;
      found++;
      if (rule === 'zero') (zeroed ??= voxels.slice())[i] = 0;
    }
    await breath.maybe();
  }
  if (found === 0) return volume;
  if (zeroed) return { ...volume, voxels: zeroed };
  throw new MaclError(
    'dataset',
    `${name}: voxels: ${found} are NaN or infinite (data.nonFinite: "zero" replaces them)`,
    {
      field: 'voxels',
      found,
    },
  );
}

/** What segmenting takes beside the volume itself: its prepared image, averages of one slab, labels. */
function checkMemory(volume: Volume, model: LoadedModel<FinetuneConfig>, options: SegmentOptions): void {
  const { sliceAxis, spacingMm, patch } = model.config.data;
  const order = axisOrder(sliceAxis);
  const outShape = permuteTriple(volume.grid.shape, order);
  const shape = spacingMm ? resampledShape(outShape, permuteTriple(volume.grid.spacingMm, order), spacingMm) : outShape;
  const voxels = shape[0] * shape[1] * shape[2];
  const window = {
    shape,
    tile: patch,
    classes: model.classes.length,
    outShape,
    onProbabilities: options.onProbabilities,
  };
  const needed = Float32Array.BYTES_PER_ELEMENT * voxels * volume.channels + predictVolumeBytes(window);
  const free = freeBytes();
  const file = options.name;
  const what = `${file ?? 'volume'}: ${shape.join('×')} voxels at the model's spacing`;
  if (needed > free) throw memoryError(what, needed, free, file === undefined ? {} : { file });
}

function mirrorAxesOf(config: FinetuneConfig): number[] {
  const trained = [0, 1, 2].filter((a) => config.augment.mirror[a]);
  return trained.length > 0 ? trained : config.model.dims === 2 ? [1, 2] : [0, 1, 2];
}

function axisMap(
  original: { shape: Triple; spacingMm: Triple },
  prepared: { shape: Triple; spacingMm: Triple },
  a: number,
): AxisMap {
  if (original.shape[a] === prepared.shape[a]) return { scale: 1, offset: 0 };
  return spacingMap(original.spacingMm[a] as number, prepared.spacingMm[a] as number, 'edges');
}

/**
 * Copies one tile of [C, D, H, W] into [d, h, w, C], mirrored along some axes, zeros outside the volume. An image of one
 * channel serves all channels of the network.
 */
export function fillTile(
  out: Float32Array,
  image: Float32Array,
  imageChannels: number,
  channels: number,
  shape: Triple,
  tile: Triple,
  start: Triple,
  mirrored: readonly number[],
): void {
  out.fill(0);
  const [td, th, tw] = tile;
  const [vd, vh, vw] = shape;
  const flip = [0, 1, 2].map((a) => mirrored.includes(a)) as [boolean, boolean, boolean];
  for (let d = 0; d < td; d++) {
    const z = start[0] + (flip[0] ? td - 1 - d : d);
    if (z < 0 || z >= vd) continue;
    for (let h = 0; h < th; h++) {
      const y = start[1] + (flip[1] ? th - 1 - h : h);
      if (y < 0 || y >= vh) continue;
      for (let c = 0; c < channels; c++) {
        const from = (((imageChannels === 1 ? 0 : c) * vd + z) * vh + y) * vw;
        const to = (d * th + h) * tw * channels + c;
        for (let w = 0; w < tw; w++) {
          const x = start[2] + (flip[2] ? tw - 1 - w : w);
          if (x >= 0 && x < vw) out[to + w * channels] = image[from + x] as number;
        }
      }
    }
  }
}

/** Class indices as the dataset's own label values. */
export function labelValues(indices: Uint8Array, values: readonly number[]): LabelArray {
  const Type = labelArrayType(values);
  const table = Type.from(values);
  const out = new Type(indices.length);
  for (let i = 0; i < indices.length; i++) out[i] = table[indices[i] as number] as number;
  return out;
}
