/**
 * One fine-tuned model in a session of its own: an inference program, and the sliding window around it. What several models
 * say of one volume, and who comes first, is `predictor.ts`'s.
 */
import type { Backend } from '../backend/types.js';
import type { FinetuneConfig } from '../settings/types.js';
import { Breather } from '../breathe.js';
import { DEFAULT_ARITHMETIC, type Arithmetic } from '../arithmetic.js';
import { chosenPrecision, type PrecisionChoice } from '../precision.js';
import { axisOrder, permuteTriple, prepareVolume } from '../data/prepare/steps.js';
import { resampledShape } from '../data/prepare/resample.js';
import type { Triple, Volume } from '../volume.js';
import { MaclError } from '../errors.js';
import type { CompiledProgram } from '../graph/compile.js';
import { declareSegmentation } from '../methods/network.js';
import { compileInference } from '../methods/inference.js';
import { predictVolume, predictVolumeBytes, spacingMap, type AxisMap } from '../segment/sliding.js';
import { Executor } from '../model/executor.js';
import { mirrorAxesOf, type LoadedModel } from '../model/description.js';
import { foldState } from '../model/fold.js';
import { weightsState } from '../model/network-state.js';
import { fillTile, runTile } from './tile.js';
import type { Turns } from './turns.js';

export interface WindowOptions {
  readonly name: string;
  readonly mirror: boolean;
  readonly signal: AbortSignal;
  readonly onWarning?: ((message: string) => void) | undefined;
  readonly onProgress?: ((done: number, total: number) => void) | undefined;
  readonly onProbabilities?: ((row: number, probabilities: Float32Array) => void | Promise<void>) | undefined;
}

/** How a network computes; what the training did plays no part, weights are float32 in any. */
export interface NetworkOptions {
  /** Default: fp32. */
  readonly precision?: PrecisionChoice | undefined;
  readonly arithmetic?: Arithmetic | undefined;
}

export class Network {
  private constructor(
    readonly model: LoadedModel<FinetuneConfig>,
    private readonly executor: Executor,
    private readonly program: CompiledProgram,
    private readonly turns: Turns,
  ) {}

  static async open(
    model: LoadedModel<FinetuneConfig>,
    backend: Backend,
    turns: Turns,
    { precision = 'fp32', arithmetic = DEFAULT_ARITHMETIC }: NetworkOptions,
  ): Promise<Network> {
    const { config } = model;
    // Each of these is some milliseconds of one piece: the event loop has a turn between them.
    const breath = new Breather();
    const net = declareSegmentation(config, backend.info, 'inference');
    await breath.breathe();
    const { program, norms } = compileInference(net, backend, {
      batch: 1,
      patch: config.data.patch,
      precision: chosenPrecision(precision, backend.info),
      arithmetic,
    });
    await breath.breathe();
    const state = await weightsState(net.state, model.tensors, model.file, backend.info);
    await foldState(net.state, state, norms, breath);
    await breath.breathe();
    return new Network(model, await Executor.open(backend, [program], state), program, turns);
  }

  /** Bytes that `window` takes beside the volume itself: its prepared image, tiles, averages of one slab, labels. */
  windowBytes(volume: Volume, probabilities: boolean): number {
    const { model, data } = this.model.config;
    const [outShape, shape] = this.shapes(volume);
    const classes = this.model.classes.length;
    const tile = data.patch[0] * data.patch[1] * data.patch[2];
    // A tile's logits twice: it is averaged while the network is at the next.
    const floats = shape[0] * shape[1] * shape[2] * volume.channels + tile * (model.inChannels + 2 * classes);
    const onProbabilities = probabilities ? () => undefined : undefined;
    const window = { shape, tile: data.patch, classes, outShape, ...(onProbabilities ? { onProbabilities } : {}) };
    return Float32Array.BYTES_PER_ELEMENT * floats + predictVolumeBytes(window);
  }

  /** The volume's own shape with the slice axis first, and what the network sees of it. */
  shapes(volume: Volume): [own: Triple, seen: Triple] {
    const { sliceAxis, spacingMm } = this.model.config.data;
    const order = axisOrder(sliceAxis);
    const own = permuteTriple(volume.grid.shape, order);
    return [own, spacingMm ? resampledShape(own, permuteTriple(volume.grid.spacingMm, order), spacingMm) : own];
  }

  /** Class indices on the volume's own grid, with the slice axis first. Voxels are finite. */
  async window(volume: Volume, options: WindowOptions): Promise<Uint8Array> {
    const { config, normalization, classes, file } = this.model;
    const { signal, name } = options;
    const { sliceAxis, spacingMm, patch: tile } = config.data;
    const rules = volume.channels === 1 ? normalization.slice(0, 1) : normalization;
    const prepared = await prepareVolume(
      volume,
      { spacingMm, normalize: rules, sliceAxis },
      name,
      this.executor.backend.info.hostFreeBytes,
      signal,
    );
    for (const words of prepared.warnings) options.onWarning?.(words);
    const { original, shape } = prepared;
    const voxels = tile[0] * tile[1] * tile[2];
    const input = new Float32Array(voxels * config.model.inChannels);
    const logits = new Float32Array(voxels * classes.length);
    const breath = new Breather(signal);
    try {
      return await predictVolume({
        shape,
        tile,
        classes: classes.length,
        mirrorAxes: options.mirror ? mirrorAxesOf(this.model) : [],
        outShape: original.shape,
        mapOutToIn: [0, 1, 2].map((a) => axisMap(original, prepared, a)) as unknown as readonly [
          AxisMap,
          AxisMap,
          AxisMap,
        ],
        runTile: async (start, mirrored) => {
          const { inChannels } = config.model;
          await fillTile(input, prepared.image, prepared.channels, inChannels, shape, tile, start, mirrored, breath);
          await this.turns.take(signal, () => runTile(this.executor, this.program, input, logits, breath, signal));
          return logits;
        },
        ...(options.onProgress ? { onProgress: options.onProgress } : {}),
        ...(options.onProbabilities ? { onProbabilities: options.onProbabilities } : {}),
        signal,
      });
    } catch (error) {
      if (!(error instanceof MaclError) || error.code !== 'nonfinite') throw error;
      const words = `${name}: ${error.message}: its voxels, or the weights of ${file}, are beyond what float32 can multiply`;
      throw new MaclError('nonfinite', words, { ...error.details, file: name }, { cause: error });
    }
  }

  close(): Promise<void> {
    return this.executor.close();
  }
}

function axisMap(
  original: { shape: Triple; spacingMm: Triple },
  prepared: { shape: Triple; spacingMm: Triple },
  a: number,
): AxisMap {
  if (original.shape[a] === prepared.shape[a]) return { scale: 1, offset: 0 };
  return spacingMap(original.spacingMm[a] as number, prepared.spacingMm[a] as number, 'edges');
}
