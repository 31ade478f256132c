/**
 * The training loop: one program run a step, results into the log, checkpoints, watchdogs, signals. What a step computes
 * and where its input comes from is given.
 */
import { MaclError } from '../errors.js';
import type { CompiledProgram } from '../graph/compile.js';
import type { StateTable } from '../nn/state.js';
import type { Executor } from '../model/executor.js';
import { InputAhead } from './input-ahead.js';
import { stateStreams } from '../model/state-files.js';
import { CHECKPOINT_ROLES } from '../nn/state.js';
import { REPRESENTATION_EVERY, type Representation } from './representation.js';
import type { RunFolder } from './run-folder.js';
import { learningRate, type Schedule } from './schedule.js';
import type { Represented, Watch } from './watch.js';
import { counted } from '../words.js';

/** Steps in a row that may be skipped for a non-finite loss or gradient. */
const MOST_SKIPPED_IN_A_ROW = 20;
export interface StepRecord {
  /** Steps done, this one included. */
  readonly step: number;
  readonly lr: number;
  /** loss, loss.* and whatever else the program reports, by name. */
  readonly results: Readonly<Record<string, number>>;
  readonly committed: boolean;
  /** Of the weights that this step began with, where it was looked at. */
  readonly representation?: Representation | undefined;
  readonly samplesPerSecond: number;
  readonly etaSeconds: number;
}

export interface Loop {
  readonly executor: Executor;
  /** What a step runs: a sawtooth's parts are two programs over one state. */
  programAt(step: number): CompiledProgram;
  readonly state: StateTable;
  readonly schedule: Schedule;
  readonly batch: number;
  readonly startStep: number;
  /** Names of float64 scalars to read after each step. */
  readonly results: readonly string[];
  readonly checkpointEvery: number;
  /** Metadata of a checkpoint (configuration and so on); the loop adds what it knows itself. */
  readonly metadata: Readonly<Record<string, string>>;
  /** Looks for collapse. */
  readonly watch: Watch;
  /** Scalars of a step beside the learning rate, by name. */
  readonly scalars?: Readonly<Record<string, (step: number) => number>> | undefined;
  /** Steps skipped before this run went on. */
  readonly skipped?: number;
  readonly folder: RunFolder;
  /**
   * Makes a step's input ready (all but `lr`), for the next run of its program. Called while the step before runs, so it touches
   * nothing of the session but `Executor.set` and `setStore`; each step once, one after the other.
   */
  prepareInput(step: number): void | Promise<void>;
  /** Looks at the features as the weights are now; called before some steps, while nothing else runs. */
  readonly represent?: (() => Promise<Representation>) | undefined;
  /** Called after every `validateEvery` steps and after the last, before the checkpoint of that step. */
  readonly validate?: ((step: number) => Promise<void>) | undefined;
  readonly validateEvery?: number;
  /** The last step that was validated before this run began or went on. */
  readonly validatedStep?: number;
  /** More of a checkpoint's metadata, as it is now. */
  progress?(): Readonly<Record<string, string>>;
  onStep?(record: StepRecord): void;
  readonly signal?: AbortSignal | undefined;
}

/**
 * Runs to the last step. On an abort saves the last finished step and throws MaclError `aborted`; likewise where a step's
 * input, or that of a look at the features, cannot be had, with the error of that.
 */
export async function trainLoop(loop: Loop): Promise<{ skipped: number; represented: Represented | undefined }> {
  const { executor, schedule, folder, watch } = loop;
  const scalars = Object.entries(loop.scalars ?? {});
  let skipped = loop.skipped ?? 0;
  let skippedInARow = 0;
  let done = loop.startStep;
  let validated = loop.validatedStep ?? 0;
  const save = () =>
    saveCheckpoint(loop, done, { skipped: String(skipped), validated: String(validated), ...watch.progress() });
  const validateIfDue = async (): Promise<void> => {
    const due = loop.validateEvery && (done % loop.validateEvery === 0 || done === schedule.steps);
    if (!due || !loop.validate || done <= validated) return;
    await loop.validate(done);
    validated = done;
    // An older checkpoint of this step does not know of it.
    saved = -1;
  };
  const pace = new Pace(loop.batch);
  const ahead = new InputAhead((step) => loop.prepareInput(step));
  // What a step needs before it runs could not be had: the state is that of the step before.
  let before: unknown = null;
  const failedBefore = (error: unknown): never => {
    before = error;
    throw error;
  };
  let saved = loop.startStep;
  try {
    // A run that was stopped inside a validation goes on with it.
    await validateIfDue();
    while (done < schedule.steps) {
      if (loop.signal?.aborted) throw new MaclError('aborted', 'stopped by a signal');
      const lr = learningRate(schedule, done);
      const program = loop.programAt(done);
      const look = done % REPRESENTATION_EVERY === 0 || done === schedule.steps - 1;
      const representation = look ? await loop.represent?.().catch(failedBefore) : undefined;
      await ahead.ready(done).catch(failedBefore);
      executor.set(program, 'lr', [lr]);
      for (const [name, at] of scalars) executor.set(program, name, [at(done)]);
      const running = executor.run(program, loop.signal ? { signal: loop.signal } : {});
      if (done + 1 < schedule.steps) ahead.begin(done + 1);
      const committed = await running;
      done++;
      const results = Object.fromEntries(loop.results.map((name) => [name, executor.scalar(program, name)]));
      skippedInARow = committed ? 0 : skippedInARow + 1;
      if (!committed) skipped++;
      const timing = pace.step(schedule.steps - done);
      folder.record({
        step: done,
        ...results,
        ...representation,
        lr,
        ...(committed ? {} : { skipped: true }),
        samplesPerSecond: round(timing.samplesPerSecond),
      });
      await folder.flushOldLog();
      loop.onStep?.({ step: done, lr, results, committed, representation, ...timing });
      if (skippedInARow >= MOST_SKIPPED_IN_A_ROW) {
        throw new MaclError(
          'nonfinite',
          `loss or gradient was not finite ${skippedInARow} steps in a row (step ${done}): stopped; the weights are those of ` +
            `the last good step. A lower optimizer.lr, or an optimizer.clip, may help.`,
        );
      }
      if (committed) watch.look(results, done);
      if (representation) watch.lookAt(representation, done);
      await validateIfDue();
      if (done % loop.checkpointEvery === 0 && done < schedule.steps) {
        await save();
        saved = done;
      }
    }
    await save();
    saved = done;
    if (schedule.steps > 0 && skipped >= schedule.steps) {
      throw new MaclError(
        'nonfinite',
        `loss or gradient was not finite in any of ${counted(schedule.steps, 'step')}: nothing was learnt, and no model is written`,
      );
    }
    return { skipped, represented: watch.represented };
  } catch (error) {
    // Reading ahead ends before the caller closes what it reads from.
    await ahead.settle();
    const stops = error instanceof MaclError && (error.code === 'aborted' || error.code === 'nonfinite');
    const readable = error instanceof MaclError && error.code !== 'device';
    const keep = stops || (readable && error === before);
    if (keep && saved !== done && done > 0) await save();
    throw stops && error.code === 'aborted' ? stopped(done, error) : error;
  } finally {
    await folder.flushLog();
  }
}

function stopped(done: number, cause: MaclError): MaclError {
  const message =
    done > 0
      ? `stopped after step ${done}, which is saved: --resume goes on`
      : 'stopped before the first step was done';
  return new MaclError('aborted', message, {}, { cause });
}

async function saveCheckpoint(loop: Loop, step: number, more: Readonly<Record<string, string>>): Promise<void> {
  const read = (offset: number, bytes: number) => loop.executor.readStateAt(offset, bytes);
  const tensors = stateStreams(loop.state, read, CHECKPOINT_ROLES, `after step ${step}`);
  const metadata = { ...loop.metadata, ...loop.progress?.(), ...more, step: String(step) };
  await loop.folder.saveCheckpoint(step, tensors, metadata);
}

const round = (x: number): number => Number(x.toPrecision(4));

/** Samples a second over the last steps, and the time that is left at that pace. */
class Pace {
  private readonly ends: number[] = [performance.now()];
  constructor(private readonly batch: number) {}
  step(left: number): { samplesPerSecond: number; etaSeconds: number } {
    this.ends.push(performance.now());
    if (this.ends.length > 32) this.ends.shift();
    const seconds = ((this.ends.at(-1) as number) - (this.ends[0] as number)) / 1000 / (this.ends.length - 1);
    return { samplesPerSecond: this.batch / seconds, etaSeconds: seconds * left };
  }
}
