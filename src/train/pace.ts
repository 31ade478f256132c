/**
 * How long a run will take, said before its first step: two steps are run on this machine and their effects thrown away,
 * or, where a run is shorter than that is worth, the network's arithmetic is counted.
 */
import type { Arithmetic } from '../arithmetic.js';
import { countVariants } from '../ops/conv3d-variants.js';
import type { BackendInfo } from '../backend/types.js';
import { estimateStepSeconds } from '../config/cost.js';
import { methodOf } from '../methods/index.js';
import { samplesOf, type ResolvedConfig, type Triple } from '../settings/types.js';
import type { CompiledProgram } from '../graph/compile.js';
import { MaclError } from '../errors.js';
import { tileStarts } from '../segment/sliding-geometry.js';
import { counted } from '../words.js';
import type { Executor } from '../model/executor.js';

/** Runs of fewer steps are not worth two more. */
const LEAST_STEPS = 100;
/** A first step that took this long is measure enough. */
const LONG_SECONDS = 2;

export interface Pace {
  readonly stepSeconds: number;
  /** Of one tile of a validation; 0 where there is none. */
  readonly tileSeconds: number;
  readonly measured: boolean;
}

export interface PaceOptions {
  readonly executor: Executor;
  readonly program: CompiledProgram;
  /** The program of a validation's tiles. */
  readonly inference: CompiledProgram | undefined;
  readonly config: ResolvedConfig;
  readonly startStep: number;
  /** As the loop's. */
  prepareInput(step: number): void | Promise<void>;
  readonly signal?: AbortSignal | undefined;
}

/** Changes the session's state: the caller writes it again. */
export async function measurePace(o: PaceOptions): Promise<Pace> {
  const { executor, program, config, startStep } = o;
  const { steps } = config.train;
  const batch = samplesOf(config.train);
  if (steps - startStep < LEAST_STEPS) {
    const stepSeconds = estimateStepSeconds(config.model, config.data.patch as Triple, batch, methodOf(config));
    // A tile is a sample's forward pass; backward costs two more.
    return { stepSeconds, tileSeconds: o.inference ? stepSeconds / batch / 3 : 0, measured: false };
  }
  const run = o.signal ? { signal: o.signal } : {};
  const timed = async (what: CompiledProgram): Promise<number> => {
    const from = performance.now();
    await executor.run(what, run);
    return (performance.now() - from) / 1000;
  };
  try {
    await o.prepareInput(startStep);
    executor.set(program, 'lr', [0]);
    let stepSeconds = await timed(program);
    // The first touches all memory for the first time.
    if (stepSeconds < LONG_SECONDS) stepSeconds = await timed(program);
    return { stepSeconds, tileSeconds: o.inference ? await timed(o.inference) : 0, measured: true };
  } catch (error) {
    if (!(error instanceof MaclError) || error.code !== 'aborted') throw error;
    throw new MaclError('aborted', 'stopped before the first step was done', {}, { cause: error });
  }
}

/** Tiles of one validation. */
export function tilesOf(shapes: readonly Triple[], tile: Triple): number {
  const along = (shape: Triple, axis: 0 | 1 | 2): number => tileStarts(shape[axis], tile[axis]).length;
  return shapes.reduce((sum, s) => sum + along(s, 0) * along(s, 1) * along(s, 2), 0);
}

/** `about 2 h 10 min`, `about 40 s`: no more digits than an estimate has. */
export function roughly(seconds: number): string {
  if (seconds < 5) return 'a few seconds';
  if (seconds < 100) return `about ${5 * Math.round(seconds / 5)} s`;
  const minutes = Math.round(seconds / 60);
  if (minutes < 100) return `about ${minutes} min`;
  const hours = Math.round(minutes / 6) / 10;
  return hours < 48 ? `about ${hours} h` : `about ${Math.round(hours / 24)} days`;
}

const shortSeconds = (s: number): string =>
  s < 1 ? `${Math.max(1, Math.round(1000 * s))} ms` : `${s.toPrecision(2)} s`;

/** What was asked for, and what came of it on this device; nothing of the direct way. */
function arithmeticOf(arithmetic: Arithmetic, program: PaceOptions['program'] | undefined): string {
  if (arithmetic === 'direct' || !program) return '';
  const { all, winograd } = countVariants(program.graph);
  return `, arithmetic ${arithmetic}: ${winograd === 0 ? 'all convolutions are direct here' : `${winograd} of ${all} convolutions by Winograd's algorithm`}`;
}

/** The plan's last lines: what computes, and how long it will take. */
export function describePace(
  info: Pick<BackendInfo, 'name' | 'isa' | 'threads'>,
  {
    config,
    startStep,
    program,
  }: Pick<PaceOptions, 'config' | 'startStep'> & { readonly program?: PaceOptions['program'] },
  tiles: number,
  pace: Pace,
): string[] {
  const { steps, valEvery } = config.train;
  const left = steps - startStep;
  const validations =
    tiles === 0 ? 0 : valEvery > 0 ? Math.ceil(steps / valEvery) - Math.floor(startStep / valEvery) : 1;
  const total = left * pace.stepSeconds + validations * tiles * pace.tileSeconds;
  const source = pace.measured ? 'measured' : "reckoned from the network's arithmetic for two cores";
  const more = validations > 0 ? ` and ${counted(validations, 'validation')}` : '';
  const what = `${counted(left, 'step')}${more}`;
  const threads = info.name === 'cuda' ? '' : `, ${counted(info.threads, 'thread')}`;
  return [
    `device: ${info.name} (${info.isa})${threads}${arithmeticOf(config.train.arithmetic, program)}`,
    `time: ${roughly(total)} for ${what} (${shortSeconds(pace.stepSeconds)} a step, ${source})`,
  ];
}
