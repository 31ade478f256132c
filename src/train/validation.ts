/**
 * Validation in the middle of training: another program over the same state. Mean per-case Dice of the foreground on the
 * prepared grid; the best weights so far are kept in `checkpoints/best.safetensors`.
 */
import { Breather } from '../breathe.js';
import type { FinetuneConfig } from '../settings/types.js';
import { isDamage, systemCode, withSafetensors, writeSafetensorsFile } from '../data/files.js';
import { imageValues, type LoadedCase, type PreparedCase } from '../data/prepare/prepared-case.js';
import type { CompiledProgram } from '../graph/compile.js';
import type { StateTable } from '../nn/state.js';
import { countClasses, diceOf } from '../segment/metrics.js';
import { predictVolume } from '../segment/sliding.js';
import type { OnEvent } from './events.js';
import type { Executor } from '../model/executor.js';
import { modelMetadata } from '../model/description.js';
import { fileStreams, stateStreams } from '../model/state-files.js';
import { MODEL_ROLES } from '../nn/state.js';
import type { RunFolder } from './run-folder.js';
import type { RunRecord } from './run-record.js';
import { fillTile, runTile } from '../predict/tile.js';
import type { Validation } from './trainer.js';
import { fileError, type MaclError } from '../errors.js';
import { IGNORE_LABEL } from '../volume.js';

export interface ValidationOptions {
  readonly executor: Executor;
  readonly inference: CompiledProgram;
  readonly record: RunRecord<FinetuneConfig>;
  readonly state: StateTable;
  readonly cases: readonly PreparedCase[];
  readonly folder: RunFolder;
  /** Metadata of the checkpoint that the run goes on from. */
  readonly resumed?: Readonly<Record<string, string>> | null;
  readonly onEvent?: OnEvent | undefined;
  readonly signal?: AbortSignal | undefined;
}

export async function openValidation(o: ValidationOptions): Promise<Validation> {
  const file = o.folder.file('checkpoints/best.safetensors');
  // The checkpoint says what was best, not the file: after a kill that may be of a step that the run has still to repeat,
  // and it will be written again.
  let best = Number(o.resumed?.['bestDice'] ?? -Infinity);
  return {
    async run(step) {
      const { mean, perClass } = await meanDiceOf(o);
      const better = mean !== null && mean > best;
      o.folder.record({ step, validationDice: mean, best: better, validationDicePerClass: perClass });
      const { classes } = o.record;
      const named = Object.fromEntries(perClass.map((d, k) => [classes[k + 1]?.name ?? String(k + 1), d]));
      o.onEvent?.({ kind: 'validation', step, meanDice: mean, perClass: named, best: better });
      if (!better) return;
      best = mean;
      const read = (offset: number, bytes: number) => o.executor.readStateAt(offset, bytes);
      const tensors = stateStreams(o.state, read, MODEL_ROLES, `after step ${step}`);
      await writeSafetensorsFile(file, tensors, { ...modelMetadata(o.record), step: String(step), dice: String(mean) });
    },
    progress: (): Record<string, string> => (Number.isFinite(best) ? { bestDice: String(best) } : {}),
    async best(use) {
      if (!Number.isFinite(best)) return null;
      try {
        return await withSafetensors(file, async (kept) => {
          if (Number(kept.metadata['dice']) !== best)
            throw fileError(file, 'dice', `expected ${best}, found ${kept.metadata['dice'] ?? 'nothing'}`);
          const used = await use(fileStreams(o.state, kept, MODEL_ROLES));
          const message = `the model has the weights of step ${kept.metadata['step']}, the best in validation (mean Dice ${best.toFixed(4)})`;
          o.onEvent?.({ kind: 'note', message });
          return used;
        });
      } catch (error) {
        // What cannot be read now may be read later: only what is gone or damaged is lost.
        const lost =
          isDamage(error) ||
          (error as MaclError).code === 'weights' ||
          systemCode((error as MaclError).cause) === 'ENOENT';
        if (!lost || (error as MaclError).details.file !== file) throw error;
        const message = `the best weights are lost, the last ones are kept: ${(error as MaclError).message}`;
        o.onEvent?.({ kind: 'warning', message });
        return null;
      }
    },
  };
}

interface MeanDice {
  /** Mean over cases of the mean over foreground classes; null where no case has any. */
  readonly mean: number | null;
  /** Mean over cases, foreground classes in order; null for a class that is nowhere. */
  readonly perClass: readonly (number | null)[];
}

/** Classes that are in neither mask of a case are left out of its mean, and the case out of theirs. */
async function meanDiceOf(o: ValidationOptions): Promise<MeanDice> {
  const { classes } = o.record.config.model;
  const perCase: number[] = [];
  const byClass: number[][] = Array.from({ length: classes - 1 }, () => []);
  for (const item of o.cases) {
    const loaded = await item.load(o.signal);
    const predicted = await segment(o, loaded);
    const found = await caseDice(predicted, loaded, classes, new Breather(o.signal));
    for (const [k, dice] of found.entries()) if (dice !== null) byClass[k]!.push(dice);
    const mean = meanOf(found.filter((d) => d !== null));
    if (mean !== null) perCase.push(mean);
  }
  return { mean: meanOf(perCase), perClass: byClass.map(meanOf) };
}

const meanOf = (values: readonly number[]): number | null =>
  values.length === 0 ? null : values.reduce((a, b) => a + b, 0) / values.length;

async function segment(o: ValidationOptions, c: LoadedCase): Promise<Uint8Array> {
  const { model, data } = o.record.config;
  const tile = data.patch;
  const breath = new Breather(o.signal);
  const image = await imageValues(c, breath);
  const voxels = tile[0] * tile[1] * tile[2];
  const input = new Float32Array(voxels * model.inChannels);
  const logits = new Float32Array(voxels * model.classes);
  return predictVolume({
    shape: c.shape,
    tile,
    classes: model.classes,
    runTile: async (start, mirrored) => {
      await fillTile(input, image, c.channels, model.inChannels, c.shape, tile, start, mirrored, breath);
      await runTile(o.executor, o.inference, input, logits, breath, o.signal);
      return logits;
    },
    ...(o.signal ? { signal: o.signal } : {}),
  });
}

/** One a foreground class; null for a class that is in neither mask. */
async function caseDice(predicted: Uint8Array, c: LoadedCase, classes: number, breath: Breather) {
  const foreground = Array.from({ length: classes - 1 }, (_, n) => n + 1);
  if (!c.labels) return foreground.map(() => null);
  const counts = await countClasses(predicted, c.labels, c.shape, foreground, breath, IGNORE_LABEL);
  return foreground.map((value): number | null => {
    const dice = diceOf(counts.get(value)!);
    return Number.isNaN(dice) ? null : dice;
  });
}
