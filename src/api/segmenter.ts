/** `Segmenter`: models that are ready to segment volumes in memory and files, for services. */
import type { Backend } from '../backend/types.js';
import { niftiBytes, writeNifti, type NiftiSource } from '../data/nifti/index.js';
import { isGzip } from '../data/inflate.js';
import type { Volume } from '../volume.js';
import { Breather } from '../breathe.js';
import { MaclError } from '../errors.js';
import { ARITHMETICS, type Arithmetic } from '../arithmetic.js';
import { PRECISION_CHOICES, type PrecisionChoice } from '../precision.js';
import { checkOptions, showValue, type OptionKinds } from '../options.js';
import { copyOf, isArrayOf, messageOf } from '../realm.js';
import { labelValues, type LabelArray } from '../segment/label-values.js';
import { NIFTI } from '../predict/cases.js';
import type { NetworkOptions } from '../predict/network.js';
import { planOutputs, sealOf } from '../predict/outputs.js';
import { Predictor, SEGMENT_OPTIONS, type SegmentOptions } from '../predict/predictor.js';
import { segmentSources } from '../predict/segment-sources.js';
import { MACHINE_OPTIONS, openMachine, type MachineOptions } from '../backend/machine.js';
import { segmentAnyOrientation } from '../predict/volumes.js';
import { loadModels } from './predict.js';

export interface SegmenterOptions extends MachineOptions {
  /** The most calls that may be pending at once; one more is rejected with MaclError `busy`. Default: no limit. */
  readonly maxQueue?: number | undefined;
  /** What activations are held in, whatever the model was trained in. Default: fp32. */
  readonly precision?: PrecisionChoice | undefined;
  /** How convolutions are computed, whatever the training's were. Default: direct. */
  readonly arithmetic?: Arithmetic | undefined;
  /** What is worth saying while the models are loaded. */
  readonly onNote?: ((message: string) => void) | undefined;
}

const SEGMENTER_OPTIONS: OptionKinds<SegmenterOptions> = {
  ...MACHINE_OPTIONS,
  maxQueue: 'count',
  precision: PRECISION_CHOICES,
  arithmetic: ARITHMETICS,
  onNote: 'function',
};

export interface SegmentVolumeOptions extends SegmentOptions {
  /** Take the voxels' memory over instead of copying it: the caller's array is empty afterwards. */
  readonly transfer?: boolean | undefined;
}

const VOLUME_OPTIONS: OptionKinds<SegmentVolumeOptions> = { ...SEGMENT_OPTIONS, transfer: 'flag' };

export interface SegmentBufferOptions extends Omit<SegmentOptions, 'onProbabilities'> {
  /** Voxels that are NaN or infinite. Default: as the model says. */
  readonly nonFinite?: 'refuse' | 'zero' | undefined;
}

const { onProbabilities: _, ...WITHOUT_PROBABILITIES } = SEGMENT_OPTIONS;
const BUFFER_OPTIONS: OptionKinds<SegmentBufferOptions> = { ...WITHOUT_PROBABILITIES, nonFinite: ['refuse', 'zero'] };

export interface SegmentFileOptions extends SegmentBufferOptions {
  /** Replace what is at `output`, whoever wrote it. */
  readonly overwrite?: boolean | undefined;
}

const FILE_OPTIONS: OptionKinds<SegmentFileOptions> = { ...BUFFER_OPTIONS, overwrite: 'flag' };

/** A NIfTI file: its path, or its bytes (gzip or not). A list has one file a channel. */
export type NiftiInput = string | Uint8Array;

/**
 * Opened once, used often, closed at the end (`await using` does it). Calls run side by side and take turns tile by tile, so
 * that a small volume does not wait behind a large one. What a call is given is its own from the moment it is made: arrays
 * may be used again at once.
 */
export class Segmenter {
  private constructor(
    private readonly predictor: Predictor,
    private readonly backend: Backend,
    /** Label values and names, the background first. */
    readonly classes: readonly { readonly value: number; readonly name: string }[],
    readonly maxQueue: number,
    private readonly computing: NetworkOptions,
  ) {}

  /** @param model a fine-tuned run's folder, or its model file; of several the mean is taken */
  static async open(model: string | readonly string[], options: SegmenterOptions = {}): Promise<Segmenter> {
    checkOptions('Segmenter.open', options, SEGMENTER_OPTIONS);
    checkOptions('Segmenter.open', { model }, { model: 'text or list' }, ['model']);
    const models = await loadModels(model, options.onNote);
    const backend = await openMachine(options, options.onNote);
    await new Breather().breathe();
    const { maxQueue = Infinity } = options;
    try {
      const predictor = await Predictor.open(models, backend, { ...options, maxQueue });
      const { precision, arithmetic } = options;
      return new Segmenter(predictor, backend, predictor.classes, maxQueue, { precision, arithmetic });
    } catch (error) {
      await backend.close();
      throw error;
    }
  }

  /** Calls that have not ended: running, or waiting for memory. */
  get pending(): number {
    return this.predictor.pending;
  }

  /**
   * Label values on the volume's own grid, [D, H, W]. Any affine will do: the volume is turned to RAS and back.
   * Rejects with MaclError `aborted` within one tile of an abort, `geometry` where grid and voxels do not fit, `busy`.
   */
  async segment(volume: Volume, options: SegmentVolumeOptions = {}): Promise<LabelArray> {
    checkOptions('segment', options, VOLUME_OPTIONS);
    const { transfer, ...rest } = options;
    if (isArrayOf(volume, 'Uint8Array'))
      throw new MaclError('geometry', 'segment: expected a volume; segmentBuffer takes the bytes of a NIfTI file');
    const values = this.classes.map((c) => c.value);
    return this.predictor.use(options.signal, async (call) => {
      const { signal } = call;
      return segmentAnyOrientation(volume, { signal, transfer }, async (ras) =>
        labelValues(await this.predictor.segmentIn(call, ras, rest), values, new Breather(signal)),
      );
    });
  }

  /**
   * Segments a NIfTI file and writes the labels to `output`, on the input's own grid. A file there that was not written by
   * macl is replaced with `overwrite` alone. @returns the file
   */
  async segmentFile(
    input: NiftiInput | readonly NiftiInput[],
    output: string,
    options: SegmentFileOptions = {},
  ): Promise<{ file: string }> {
    checkOptions('segmentFile', options, FILE_OPTIONS);
    const sources = sourcesOf('segmentFile', input);
    if (typeof output !== 'string' || !NIFTI.test(output)) {
      const words = `segmentFile: output: expected the name of a .nii or .nii.gz file, found ${showValue(output)}`;
      throw new MaclError('config', words, { field: 'output', found: output });
    }
    const { signal, mirror = false, largestComponent = false } = options;
    const nonFinite = this.nonFinite(options);
    const settings = { mirror, largestComponent, nonFinite, ...this.computing };
    const seal = await sealOf(this.predictor.models, settings, signal);
    const files = sources.filter((source) => typeof source === 'string');
    await planOutputs([{ id: output, files, output }], {
      out: output,
      probabilities: false,
      overwrite: options.overwrite ?? false,
      continue: false,
      seal,
      signal,
    });
    const { like, voxels } = await this.segmented(sources, options);
    await writeNifti(output, { like, voxels, seal, ...(signal ? { signal } : {}) });
    return { file: output };
  }

  /** Segments the bytes of a NIfTI file. @returns those of the label file on the same grid, gzip where the (first) input is */
  async segmentBuffer(input: Uint8Array | readonly Uint8Array[], options: SegmentBufferOptions = {}): Promise<Buffer> {
    checkOptions('segmentBuffer', options, BUFFER_OPTIONS);
    const sources = sourcesOf('segmentBuffer', input);
    const [first] = sources;
    if (sources.some((source) => typeof source === 'string'))
      throw new MaclError('config', 'segmentBuffer: expected the bytes of a NIfTI file; segmentFile takes paths');
    const { like, voxels } = await this.segmented(sources, options);
    const gzip = typeof first === 'object' && isGzip(first.bytes);
    return niftiBytes(
      options.name ?? 'volume',
      { like, voxels, ...(options.signal ? { signal: options.signal } : {}) },
      gzip,
    );
  }

  private nonFinite(options: SegmentBufferOptions): 'refuse' | 'zero' {
    return options.nonFinite ?? this.predictor.model.config.data.nonFinite;
  }

  private segmented(sources: readonly NiftiSource[], options: SegmentBufferOptions) {
    const [first] = sources;
    const name = options.name ?? (typeof first === 'string' ? first : (first?.name ?? 'volume'));
    const { nonFinite: _given, ...rest } = options;
    return segmentSources(this.predictor, sources, {
      ...rest,
      name,
      nonFinite: this.nonFinite(options),
      probabilities: false,
    });
  }

  /** Waits for the calls that are pending, then gives all memory back. Further calls are rejected with MaclError `state`. */
  async close(): Promise<void> {
    await this.predictor.close();
    await this.backend.close();
  }

  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }
}

/** Paths as they are; bytes are copied, as their owner may use them again. */
function sourcesOf(what: string, input: unknown): NiftiSource[] {
  const list: readonly unknown[] = Array.isArray(input) ? input : [input];
  if (list.length === 0)
    throw new MaclError('config', `${what}: input: expected a file, found none`, { field: 'input' });
  return list.map((one, n): NiftiSource => {
    if (typeof one === 'string') return one;
    if (isArrayOf(one, 'Uint8Array')) return { name: list.length === 1 ? 'input' : `input ${n}`, bytes: copyOf(one) };
    const words = `${what}: input: expected a path or the bytes of a NIfTI file, found ${showValue(one)}`;
    throw new MaclError('config', words, { field: 'input', found: messageOf(one) });
  });
}
