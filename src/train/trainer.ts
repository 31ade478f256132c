/**
 * What pre-training and fine-tuning share: a backend, programs and volumes in one session, the run's folder, resume, the
 * loop, the model at the end. The two differ in how a step is built, fed and validated: see `pretrain.ts`, `finetune.ts`.
 */
import { MACHINE_OPTIONS, openMachine, type MachineOptions } from '../backend/machine.js';
import type { Backend, Host } from '../backend/types.js';
import { settingPaths } from '../config/index.js';
import { samplesOf, type ConfigInput, type ResolvedConfig } from '../settings/types.js';
import type { Dataset } from '../data/dataset.js';
import type { OpenSafetensors } from '../data/files.js';
import type { PreparedCase } from '../data/prepare/prepared-case.js';
import type { TensorStream } from '../data/safetensors.js';
import { MaclError, memoryError } from '../errors.js';
import type { OptionKinds } from '../options.js';
import { sessionSizes, type CompiledProgram } from '../graph/compile.js';
import { checkPrecision } from '../methods/precision.js';
import { bitsOf, chosenPrecision, type Precision } from '../precision.js';
import type { Network } from '../methods/network.js';
import type { StateTable } from '../nn/state.js';
import type { OnEvent } from './events.js';
import { Executor } from '../model/executor.js';
import { trainLoop } from './loop.js';
import { modelMetadata, sameMeaning } from '../model/description.js';
import { describeRepresentation, type Representation } from './representation.js';
import { Watch, type Represented } from './watch.js';
import { emptyState } from '../model/network-state.js';
import { readStateFile, stateStreams } from '../model/state-files.js';
import { CHECKPOINT_ROLES, MODEL_ROLES } from '../nn/state.js';
import { RunFolder } from './run-folder.js';
import { checkResume, checkSameVolumes, checkVariants, readRecord, volumesOf, type RunRecord } from './run-record.js';
import { openData, type DataOptions } from './setup.js';
import { describePace, measurePace, tilesOf } from './pace.js';
import { firstPart, scheduleOf } from './schedule.js';
import { planStore, VolumeStore, type StoreOptions } from './volume-store.js';
import { counted } from '../words.js';

export interface RunOptions extends MachineOptions {
  /** The run's folder. */
  readonly out: string;
  readonly resume?: boolean | undefined;
  readonly signal?: AbortSignal | undefined;
  readonly onEvent?: OnEvent | undefined;
}

export const RUN_OPTIONS: OptionKinds<RunOptions> = {
  ...MACHINE_OPTIONS,
  out: 'text',
  resume: 'flag',
  signal: 'signal',
  onEvent: 'function',
};

/** Where a setting belongs that is given as an option. */
export const configPaths = (task: 'pretrain' | 'finetune'): string[] => settingPaths(task).map((p) => `config.${p}`);

export interface RunSummary {
  readonly out: string;
  readonly model: string;
  readonly steps: number;
  readonly skipped: number;
  /** Results of the last step. */
  readonly last: Readonly<Record<string, number>>;
  /** Effective rank of the encoder's levels and dead units, at the first step and at the last; pre-training only. */
  readonly represented?: Represented;
}

/** What `pretrain.ts` and `finetune.ts` hand over once they know the data and the plan. */
export interface Training<C extends ResolvedConfig> {
  readonly record: RunRecord<C>;
  readonly net: Network;
  /** State at step 0, if the run begins there. */
  begin(): Promise<Uint8Array> | Uint8Array;
  readonly program: CompiledProgram;
  /** The program of a sawtooth's first part: the same inputs and results, over the same state. */
  readonly first?: CompiledProgram | undefined;
  /** Programs besides the training step (validation). */
  readonly others: readonly CompiledProgram[];
  /** The cases whose volumes training samples. */
  readonly cases: readonly PreparedCase[];
  /** The cases that are held out for validation. */
  readonly heldCases: readonly PreparedCase[];
  readonly boxVoxels: StoreOptions['boxVoxels'];
  /** Makes what makes each step's input ready, for the program that the step runs, while another step runs. */
  feed(
    executor: Executor,
    store: VolumeStore,
    programAt: (step: number) => CompiledProgram,
  ): (step: number) => void | Promise<void>;
  /** Makes what looks at the features; pre-training only. */
  represent?(executor: Executor, store: VolumeStore): () => Promise<Representation>;
  /** Returns a validation, if there are cases for it. `resumed` is the metadata of the checkpoint that a run goes on from. */
  validation?(
    executor: Executor,
    folder: RunFolder,
    resumed: Readonly<Record<string, string>> | null,
  ): Promise<Validation | null>;
  /** Steps between checkpoints. A resume may change it: it says nothing about the result. */
  readonly checkpointEvery: number;
}

export interface Validation {
  run(step: number): Promise<void>;
  /** What a checkpoint has to remember of it. */
  progress(): Readonly<Record<string, string>>;
  /** Hands the weights to keep at the end instead of the last ones to `use`; null where there are none. */
  best<T>(use: (tensors: ReadonlyMap<string, TensorStream>) => Promise<T>): Promise<T | null>;
}

/** How a task differs in what it does before its first step. */
export interface Task<I extends ConfigInput, C extends ResolvedConfig> {
  /** Plans a new run of these settings. */
  begin(input: I, dataset: Dataset, backend: Backend): Promise<RunRecord<C>>;
  /** Prepares the cases of a run, new or resumed, and compiles its programs. */
  prepare(record: RunRecord<C>, dataset: Dataset, backend: Backend): Promise<Training<C>>;
}

/** A whole run: takes the folder and a backend, begins or goes on, trains, gives both back. */
export async function runTask<I extends ConfigInput, C extends ResolvedConfig>(
  options: RunOptions & DataOptions,
  asked: I,
  task: Task<I, C>,
): Promise<RunSummary> {
  const folder = await RunFolder.open(options.out, { resume: options.resume ?? false });
  try {
    const machine = { ...options, threads: options.threads ?? asked.train?.threads ?? undefined };
    const backend = await openMachine(machine, (message) => options.onEvent?.({ kind: 'note', message }));
    try {
      const begun = options.resume ? await folder.readConfig() : null;
      if (!begun) {
        const precision = chosenPrecision(asked.train?.precision ?? 'fp32', backend.info);
        checkPrecision(precision, backend.info);
        const dataset = await openData(options);
        const record = await task.begin(withPrecision(asked, precision), dataset, backend);
        return await train(await task.prepare(record, dataset, backend), backend, folder, options);
      }
      const record = readRecord<C>(begun, asked.task, folder.file('config.json'));
      checkResume(withPrecision(asked, record.config.train.precision), record.config);
      checkVariants(record);
      checkPrecision(record.config.train.precision, backend.info);
      warnOtherDevice(record, backend, options.onEvent);
      if (await folder.isFinished()) return finished(record, folder, options);
      const dataset = await openData(options);
      if (dataset.root !== record.dataset) {
        const message = `this run began on ${record.dataset} and goes on with ${dataset.root}: other volumes there give other bits`;
        options.onEvent?.({ kind: 'warning', message });
      }
      return await train(await task.prepare(record, dataset, backend), backend, folder, options);
    } finally {
      await backend.close();
    }
  } finally {
    await folder.close();
  }
}

/** `auto` as it was chosen: of a run that goes on, what it began with. */
function withPrecision<I extends ConfigInput>(input: I, chosen: Precision): I {
  return input.train?.precision === 'auto' ? { ...input, train: { ...input.train, precision: chosen } } : input;
}

/** A resume of a finished run changes nothing. */
function finished(record: RunRecord, folder: RunFolder, options: RunOptions): RunSummary {
  options.onEvent?.({ kind: 'note', message: `${folder.path}: this run is finished; nothing to do` });
  const { steps } = record.config.train;
  return { out: folder.path, model: folder.file('model.safetensors'), steps, skipped: 0, last: {} };
}

/** Runs (or goes on with) a training to its model. `folder` is taken already; this closes neither it nor the backend. */
async function train<C extends ResolvedConfig>(
  t: Training<C>,
  backend: Backend,
  folder: RunFolder,
  options: RunOptions,
): Promise<RunSummary> {
  const { record, net } = t;
  const { state } = net;
  const { config } = record;
  const onEvent = options.onEvent ?? (() => undefined);
  const warn = (message: string) => onEvent({ kind: 'warning', message });
  const volumes = volumesOf([...t.cases, ...t.heldCases]);
  const unsure = checkSameVolumes(record, volumes);
  if (unsure !== null) warn(unsure);

  const schedule = scheduleOf(config.optimizer, config.train.steps);
  const until = firstPart(schedule);
  const programAt = (step: number): CompiledProgram => (t.first && step < until ? t.first : t.program);
  const programs = programsOf(t);
  const fixed = sessionSizes(programs);
  const others = fixed.state + fixed.scratch + fixed.io;
  const storePlan = planStore(t.cases, {
    slots: samplesOf(config.train) * net.method.patches,
    boxVoxels: t.boxVoxels,
    budgetBytes: options.storeBytes ?? Math.max(0, (backend.info.maxBytes - others) / 2),
  });
  if (!storePlan.resident)
    onEvent({ kind: 'note', message: `the volumes do not fit into memory: each step reads its boxes from disk` });
  const { session, startStep, resumed } = await openState(t, backend.info, folder, options, async (initial, from) => {
    const opened = await Executor.open(backend, programs, initial, storePlan.bytes);
    try {
      const volumeStore = await VolumeStore.open(opened.session, t.cases, storePlan, options.signal);
      const feed = t.feed(opened, volumeStore, programAt);
      if (from < config.train.steps) {
        const [inference] = t.heldCases.length > 0 ? t.others : [];
        const program = programAt(from);
        const measure = { executor: opened, program, inference, config, startStep: from, prepareInput: feed };
        const pace = await measurePace({ ...measure, signal: options.signal });
        opened.writeState(initial);
        const tiles = tilesOf(
          t.heldCases.map((c) => c.shape),
          config.data.patch,
        );
        const held = config.task === 'finetune' ? [describeValidation(t)] : [];
        onEvent({
          kind: 'plan',
          lines: [...held, ...describePace(backend.info, { ...measure, program }, tiles, pace)],
        });
      }
      return { executor: opened, store: volumeStore, feed };
    } catch (error) {
      await opened.close();
      throw error;
    }
  });
  const { executor, store, feed } = session;
  const validatedStep = Number(resumed?.['validated'] ?? 0);
  const isDone = (record: Readonly<Record<string, unknown>>): boolean =>
    typeof record['step'] === 'number' && record['step'] <= ('validationDice' in record ? validatedStep : startStep);
  try {
    const validation = (await t.validation?.(executor, folder, resumed)) ?? null;
    // From here on the folder holds a run; whatever stops it before leaves none.
    if ((await folder.readConfig()) === null) await folder.writeConfig({ ...record, volumes });
    await folder.cutLog(isDone, warn);
    let last: Readonly<Record<string, number>> = {};
    const { skipped, represented } = await trainLoop({
      executor,
      programAt,
      state,
      schedule,
      batch: samplesOf(config.train),
      startStep,
      results: [...net.method.results(config), 'gradnorm'],
      checkpointEvery: t.checkpointEvery,
      metadata: modelMetadata(record),
      skipped: Number(resumed?.['skipped'] ?? 0),
      watch: new Watch(net.method.watchdogs?.(config, resumed ?? {}) ?? [], warn, resumed ?? {}),
      scalars: net.method.scalars?.(config),
      folder,
      represent: t.represent?.(executor, store),
      prepareInput: feed,
      validate: validation ? (step) => validation.run(step) : undefined,
      ...(validation ? { validateEvery: config.train.valEvery > 0 ? config.train.valEvery : config.train.steps } : {}),
      validatedStep,
      ...(validation ? { progress: () => validation.progress() } : {}),
      onStep: (step) => {
        last = step.results;
        onEvent({ kind: 'step', steps: config.train.steps, ...step });
      },
      signal: options.signal,
    });
    const save = (tensors: Parameters<typeof folder.saveModel>[0]) => folder.saveModel(tensors, modelMetadata(record));
    const read = (offset: number, bytes: number) => executor.readStateAt(offset, bytes);
    const model =
      (await validation?.best(save)) ?? (await save(stateStreams(state, read, MODEL_ROLES, 'after the last step')));
    if (represented) onEvent({ kind: 'note', message: describeRepresentation(represented.first, represented.last) });
    onEvent({ kind: 'saved', file: model });
    const summary = { out: folder.path, model, steps: config.train.steps, skipped, last };
    return represented ? { ...summary, represented } : summary;
  } finally {
    await executor.close();
  }
}

/** All that run in one session. */
const programsOf = ({ program, first, others }: Pick<Training<ResolvedConfig>, 'program' | 'first' | 'others'>) => [
  program,
  ...(first ? [first] : []),
  ...others,
];

function describeValidation({ cases, heldCases }: Training<ResolvedConfig>): string {
  return heldCases.length > 0
    ? `training on ${counted(cases.length, 'case')}; ${counted(heldCases.length, 'case')} held out for validation, whose best weights are kept`
    : `training on ${counted(cases.length, 'case')}, without validation: the last weights are kept (--val 0.2 holds a fifth out)`;
}

interface OpenedState<T> {
  readonly session: T;
  readonly startStep: number;
  /** Metadata of the checkpoint that the run goes on from. */
  readonly resumed: Readonly<Record<string, string>> | null;
}

/** The state at the beginning, or of the newest whole checkpoint, in a session. The copy outside it ends here. */
async function openState<T>(
  t: Training<ResolvedConfig>,
  host: Host,
  folder: RunFolder,
  { resume = false, onEvent }: RunOptions,
  open: (initial: Uint8Array, startStep: number) => Promise<T>,
): Promise<OpenedState<T>> {
  const damaged = (error: MaclError) =>
    onEvent?.({ kind: 'warning', message: `passed over a damaged checkpoint: ${error.message}` });
  const checkpoint = resume
    ? await folder.newestCheckpoint(damaged, (file) => restore(t.record, t.net.state, file, host))
    : null;
  if (checkpoint) {
    const session = await open(checkpoint.contents, checkpoint.step);
    return { session, startStep: checkpoint.step, resumed: checkpoint.metadata };
  }
  if (resume) onEvent?.({ kind: 'note', message: `${folder.path}: no whole checkpoint: starting at step 0` });
  return { session: await open(await t.begin(), 0), startStep: 0, resumed: null };
}

/** A checkpoint's state. Throws `config` for one of another run, `file` where it is damaged. */
async function restore(record: RunRecord, state: StateTable, open: OpenSafetensors, host: Host): Promise<Uint8Array> {
  const { file, metadata } = open;
  if (!sameMeaning(metadata['macl.config'], record.config))
    throw new MaclError('config', `${file}: was saved by a run of another configuration`, { file });
  const bytes = emptyState(state, host);
  await readStateFile(state, bytes, open, CHECKPOINT_ROLES);
  return bytes;
}

/** A warning where a run goes on with another instruction set than it began with. */
function warnOtherDevice(record: RunRecord, backend: Backend, onEvent: OnEvent | undefined): void {
  const { isa, backend: name } = record.device;
  const { precision } = record.config.train;
  if (bitsOf(isa, precision) === bitsOf(backend.info.isa, precision) && name === backend.info.name) return;
  const message = `this run began on ${name} (${isa}) and goes on on ${backend.info.name} (${backend.info.isa}): its bits will differ from a run that never stopped`;
  onEvent?.({ kind: 'warning', message });
}

/** Refuses a program that would not fit, before volumes are read. */
export function checkMemory(t: Parameters<typeof programsOf>[0], backend: Backend): void {
  const sizes = sessionSizes(programsOf(t));
  const needed = sizes.state + sizes.scratch + sizes.io;
  const free = backend.info.maxBytes;
  if (needed > free) throw memoryError('this plan (a smaller --batch or --patch needs less)', needed, free);
}
