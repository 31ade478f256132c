/**
 * The Node API: everything that the command line does, asynchronous, with an AbortSignal and events while it runs.
 * Volumes in memory are typed arrays with a grid (`Volume`): see `Segmenter` and `evaluateVolumes`.
 */
import { openMachine, type MachineOptions } from './train/trainer.js';
import { loadSegmentModel } from './train/model-file.js';
import { predictFiles, type PredictFilesOptions } from './train/predict.js';
import { labelValues, Predictor, type SegmentOptions } from './train/predictor.js';
import { segmentAnyOrientation } from './train/volumes.js';
import type { Backend } from './backend/types.js';
import type { Volume } from './data/volume.js';
import type { LabelArray } from './segment/label-values.js';

export { MaclError, type MaclErrorCode, type MaclErrorDetails } from './errors.js';
export type { Grid, Triple, Volume, VoxelArray } from './data/volume.js';
export type { OnEvent, TrainEvent } from './train/events.js';
export type { DeviceName, BackendName, BackendReport } from './backend/types.js';
export type {
  ConfigInput,
  FinetuneConfigInput,
  MaclConfig,
  PretrainConfigInput,
  ResolvedConfig,
} from './config/types.js';
export { configSchema, PRESETS, resolveConfig } from './config/index.js';

export { pretrain, type PretrainOptions } from './train/pretrain.js';
export { finetune, type FinetuneOptions } from './train/finetune.js';
export type { RunSummary } from './train/trainer.js';
export type { Represented } from './train/loop.js';
export type { Representation } from './train/representation.js';
export {
  quickstart,
  type QuickstartEvent,
  type QuickstartOptions,
  type QuickstartReport,
  type QuickstartRow,
} from './train/quickstart.js';
export type { QuickstartSizes } from './train/quickstart-settings.js';
export { prepare, type PrepareOptions, type PrepareSummary } from './train/prepare-command.js';
export { step, type StepOptions } from './train/step-files.js';
export {
  inspect,
  inspectProgram,
  type InspectProgramOptions,
  type InspectReport,
  type ProgramReport,
} from './train/inspect.js';
export {
  evaluateFolders as evaluate,
  type EvaluateFoldersOptions as EvaluateOptions,
  type FolderDocument,
} from './train/evaluate-files.js';
export type { LabelArray } from './segment/label-values.js';
export { evaluationTable } from './segment/evaluate-table.js';
export { caseMetrics, type CaseMetrics } from './segment/metrics.js';
export { summarise, type EvaluationDocument } from './segment/evaluate.js';
export { evaluateVolumes, type EvaluateVolumesOptions, type VolumePair } from './train/volumes.js';
export { readNifti, toRas, fromRas, writeNifti } from './data/nifti.js';

export interface PredictOptions
  extends MachineOptions, Omit<PredictFilesOptions, 'mirror' | 'probabilities' | 'nonFinite'> {
  /** A fine-tuned run's folder, or its model file. */
  readonly model: string;
  readonly mirror?: boolean | undefined;
  readonly probabilities?: boolean | undefined;
  readonly nonFinite?: 'refuse' | 'zero' | undefined;
}

/** Segments a file or a folder; one label volume a case, on the input's own grid. @returns the files written */
export async function predict(options: PredictOptions): Promise<{ id: string; file: string }[]> {
  const model = await loadSegmentModel(options.model);
  const backend = await openMachine(options);
  try {
    const { mirror = false, probabilities = false } = options;
    const nonFinite = options.nonFinite ?? model.config.data.nonFinite;
    return await predictFiles(model, backend, { ...options, mirror, probabilities, nonFinite });
  } finally {
    await backend.close();
  }
}

/** A model that is ready to segment volumes in memory, for services: opened once, used often, closed at the end. */
export class Segmenter {
  private constructor(
    private readonly predictor: Predictor,
    private readonly backend: Backend,
    /** Label values and names, the background first. */
    readonly classes: readonly { readonly value: number; readonly name: string }[],
  ) {}

  /** @param model a fine-tuned run's folder, or its model file */
  static async open(model: string, options: MachineOptions = {}): Promise<Segmenter> {
    const loaded = await loadSegmentModel(model);
    const backend = await openMachine(options);
    try {
      return new Segmenter(await Predictor.open(loaded, backend), backend, loaded.classes);
    } catch (error) {
      await backend.close();
      throw error;
    }
  }

  /**
   * Label values on the volume's own grid, [D, H, W]. Any affine will do: the volume is turned to RAS and back.
   * Rejects with MaclError `aborted` within one tile of an abort, or `geometry` where grid and voxels do not fit.
   */
  async segment(volume: Volume, options: SegmentOptions = {}): Promise<LabelArray> {
    const values = this.classes.map((c) => c.value);
    return segmentAnyOrientation(volume, options, async (ras) =>
      labelValues(await this.predictor.segment(ras, options), values),
    );
  }

  async close(): Promise<void> {
    await this.predictor.close();
    await this.backend.close();
  }
}
