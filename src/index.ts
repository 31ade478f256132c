/**
 * The Node API: everything that the command line does, asynchronous, with an AbortSignal and events while it runs.
 * Volumes in memory are typed arrays with a grid (`Volume`): see `Segmenter` and `evaluateVolumes`.
 */
export { MaclError, type MaclErrorCode, type MaclErrorDetails } from './errors.js';
export type { Grid, Triple, Volume, VoxelArray } from './volume.js';
export type { Arithmetic } from './arithmetic.js';
export type { Precision, PrecisionChoice } from './precision.js';
export type { CaseEvent, OnEvent, TrainEvent } from './train/events.js';
export type { DeviceName, BackendName, BackendReport } from './backend/types.js';
export type {
  AugmentConfig,
  AugmentInput,
  ConfigInput,
  DataConfig,
  FinetuneConfig,
  FinetuneConfigInput,
  FinetuneLossConfig,
  InitConfig,
  IntensityConfig,
  MaclConfig,
  ModelConfig,
  NormalizeKind,
  OptimizerConfig,
  ParameterGroup,
  ParameterPart,
  PresetName,
  PretrainConfig,
  PretrainConfigInput,
  PretrainLossConfig,
  ResolvedConfig,
  TrainConfig,
} from './settings/types.js';
export type { ResolveOptions } from './config/resolve.js';
export type { JsonSchema } from './settings/json-schema.js';
export { configSchema, PRESETS } from './config/index.js';

export { pretrain, type PretrainOptions } from './train/pretrain.js';
export { finetune, type FinetuneOptions } from './train/finetune.js';
export type { MachineOptions } from './backend/machine.js';
export type { RunOptions, RunSummary } from './train/trainer.js';
export type { DataOptions } from './train/setup.js';
export type { StepRecord } from './train/loop.js';
export type { Represented } from './train/watch.js';
export type { Representation } from './train/representation.js';
export {
  quickstart,
  type QuickstartEvent,
  type QuickstartOptions,
  type QuickstartReport,
  type QuickstartRow,
} from './quickstart/quickstart.js';
export type { QuickstartSizes } from './quickstart/settings.js';
export type { Interval, Measured, RowName } from './quickstart/report.js';
export type { AffineSource } from './data/nifti/affine.js';
export { prepare, type PrepareOptions, type PrepareSummary } from './train/prepare-command.js';
export { step, type StepOptions } from './step/files.js';
export {
  inspect,
  inspectProgram,
  type InspectProgramOptions,
  type InspectReport,
  type ProgramReport,
} from './step/inspect.js';
export {
  evaluateFolders as evaluate,
  type EvaluateFoldersOptions as EvaluateOptions,
  type FolderDocument,
  type FolderEvaluation,
} from './predict/evaluate-files.js';
export type { LabelArray } from './segment/label-values.js';
export { evaluationTable } from './segment/evaluate-table.js';
export type { CaseMetrics, ClassMetrics, EmptyMask, MetricName, MetricsOptions } from './segment/metrics.js';
export type { BootstrapOptions } from './segment/bootstrap.js';
export type {
  CasesMetrics,
  ClassLabel,
  ClassMetricsJson,
  EvaluationDocument,
  ExcludedCounts,
  MetricIntervals,
  MetricValues,
  PairedDifference,
  SummaryOptions,
} from './segment/evaluate.js';
export { evaluateVolumes, type EvaluateVolumesOptions, type VolumePair } from './predict/volumes.js';
export { caseMetrics, fromRas, readNifti, resolveConfig, summarise, toRas, writeNifti } from './api/volumes.js';
export { predict, type PredictOptions } from './api/predict.js';
export type { PredictedFile, PredictFilesOptions } from './predict/predict.js';
export type {
  NiftiDatatype,
  NiftiHeader,
  NiftiImage,
  Orientation,
  ReadNiftiOptions,
  WriteNiftiOptions,
} from './data/nifti/index.js';
export type { KernelCost } from './graph/program.js';
export {
  Segmenter,
  type NiftiInput,
  type SegmentBufferOptions,
  type SegmenterOptions,
  type SegmentFileOptions,
  type SegmentVolumeOptions,
} from './api/segmenter.js';
export type { SegmentOptions } from './predict/predictor.js';
