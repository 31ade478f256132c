/**
 * A run's folder: `config.json`, `log.jsonl`, `checkpoints/`, `model.safetensors`, and a lock that keeps two runs apart.
 * It knows files, not what is trained.
 */
import { open, readFile, readdir, stat, truncate, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import {
  asFileError,
  makeFolder,
  readSafetensorsFile,
  systemCode,
  writeFileAtomic,
  writeSafetensorsFile,
} from '../data/files.js';
import type { RawTensor, Safetensors } from '../data/safetensors.js';
import { MaclError } from '../errors.js';
import { isLiveTaker, isLock, takeLock } from './run-lock.js';

/** What a run writes, as it is called while it is being written: `.NAME.PID.RANDOM.tmp`. */
const OWN_TEMPORARY =
  /^\.(config\.json|model\.safetensors|lock|best\.safetensors|step-\d{9}\.safetensors)\.\d+\.[0-9a-f]{12}\.tmp$/;
/** What a run's folder may hold before its record is written. */
const BEFORE_RECORD = new Set(['checkpoints', 'log.jsonl']);
/** Kept besides the newest, so that a damaged disk block does not take the run. */
const KEPT_CHECKPOINTS = 2;
const CHECKPOINT = /^step-(\d{9})\.safetensors$/;

export interface LoadedCheckpoint {
  readonly step: number;
  readonly file: string;
  readonly contents: Safetensors;
}

export class RunFolder {
  private log: FileHandle | null = null;
  private pendingLog = '';
  private lastFlushMs = performance.now();

  private constructor(
    readonly path: string,
    private readonly lock: string,
  ) {}

  /**
   * Takes a folder for a new run (it must be empty or absent) or, with `resume`, for one that goes on.
   * @throws MaclError `state` where it is not empty, `locked` where another process holds it
   */
  static async open(path: string, options: { resume: boolean }): Promise<RunFolder> {
    await makeFolder(path);
    // Before the lock, so that nothing is written into a folder of something else; and after it, for another run's.
    const check = options.resume ? mustBeRun : mustBeEmpty;
    await check(path);
    const lock = await takeLock(path);
    try {
      await check(path);
    } catch (error) {
      await unlink(lock).catch(() => undefined);
      throw error;
    }
    if (options.resume) for (const folder of [path, join(path, 'checkpoints')]) await sweep(folder);
    return new RunFolder(path, lock);
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** Begins the run on disk: a start that failed before this leaves the folder empty, ready for another try. */
  async writeConfig(config: unknown): Promise<void> {
    await makeFolder(this.file('checkpoints'));
    await writeFileAtomic(this.file('config.json'), JSON.stringify(config, null, 2) + '\n');
  }

  async readConfig(): Promise<unknown> {
    const text = await readFile(this.file('config.json'), 'utf8').catch((error: unknown) => {
      if (systemCode(error) === 'ENOENT') return null;
      throw asFileError(error, this.file('config.json'), 'read');
    });
    if (text === null) return null;
    try {
      return JSON.parse(text) as unknown;
    } catch (cause) {
      throw new MaclError(
        'file',
        `${this.file('config.json')}: not JSON`,
        { file: this.file('config.json') },
        { cause },
      );
    }
  }

  async isFinished(): Promise<boolean> {
    return (await stat(this.file('model.safetensors')).catch(() => null)) !== null;
  }

  /** Writes a checkpoint whole or not at all, then removes all but the newest few. */
  async saveCheckpoint(
    step: number,
    tensors: ReadonlyMap<string, RawTensor>,
    metadata: Record<string, string>,
  ): Promise<void> {
    await this.flushLog();
    await makeFolder(this.file('checkpoints'));
    await writeSafetensorsFile(
      join(this.path, 'checkpoints', `step-${String(step).padStart(9, '0')}.safetensors`),
      tensors,
      metadata,
    );
    const old = (await this.checkpointSteps()).filter((s) => s.step !== step).slice(KEPT_CHECKPOINTS - 1);
    for (const { file } of old) await unlink(file).catch(() => undefined);
  }

  /** Newest first. */
  private async checkpointSteps(): Promise<{ step: number; file: string }[]> {
    const folder = join(this.path, 'checkpoints');
    const names = await readdir(folder).catch(() => [] as string[]);
    return names
      .flatMap((n) => {
        const match = CHECKPOINT.exec(n);
        return match ? [{ step: Number(match[1]), file: join(folder, n) }] : [];
      })
      .sort((a, b) => b.step - a.step);
  }

  /** The newest checkpoint that loads whole; damaged ones are reported and passed over. */
  async newestCheckpoint(onDamaged: (error: MaclError) => void): Promise<LoadedCheckpoint | null> {
    for (const { step, file } of await this.checkpointSteps()) {
      try {
        return { step, file, contents: await readSafetensorsFile(file) };
      } catch (error) {
        if (!(error instanceof MaclError)) throw error;
        onDamaged(error);
      }
    }
    return null;
  }

  /** Appends one record; it reaches the disk at the next flush: see `flushOldLog`. */
  record(record: Readonly<Record<string, unknown>>): void {
    this.pendingLog += JSON.stringify(record, finiteOrNull) + '\n';
  }

  /** Flushes where the last flush was a second ago or more, so that the log can be watched and costs little. */
  async flushOldLog(): Promise<void> {
    if (performance.now() - this.lastFlushMs >= 1000) await this.flushLog();
  }

  async flushLog(): Promise<void> {
    this.lastFlushMs = performance.now();
    if (this.pendingLog === '') return;
    const text = this.pendingLog;
    this.pendingLog = '';
    try {
      this.log ??= await open(this.file('log.jsonl'), 'a');
      await this.log.appendFile(text);
    } catch (error) {
      throw asFileError(error, this.file('log.jsonl'), 'write');
    }
  }

  /** Cuts the log back to the first record that is not kept (and a torn last line off). */
  async cutLog(keeps: (record: Readonly<Record<string, unknown>>) => boolean): Promise<void> {
    const path = this.file('log.jsonl');
    const text = await readFile(path, 'utf8').catch(() => null);
    if (text === null) return;
    let keep = 0;
    for (let at = 0; at < text.length;) {
      const end = text.indexOf('\n', at);
      if (end < 0) break;
      let record: unknown;
      try {
        record = JSON.parse(text.slice(at, end));
      } catch {
        break;
      }
      if (typeof record !== 'object' || record === null || !keeps(record as Record<string, unknown>)) break;
      at = end + 1;
      keep = at;
    }
    await truncate(path, Buffer.byteLength(text.slice(0, keep)));
  }

  async saveModel(tensors: ReadonlyMap<string, RawTensor>, metadata: Record<string, string>): Promise<string> {
    await writeSafetensorsFile(this.file('model.safetensors'), tensors, metadata);
    return this.file('model.safetensors');
  }

  async close(): Promise<void> {
    try {
      await this.flushLog();
    } finally {
      await this.log?.close().catch(() => undefined);
      this.log = null;
      await unlink(this.lock).catch(() => undefined);
    }
  }
}

function finiteOrNull(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isFinite(value) ? null : value;
}

/** Removes what killed writes of this run left. The lock is held, so only files of other takers of it are in use. */
async function sweep(folder: string): Promise<void> {
  for (const name of await readdir(folder).catch(() => [] as string[]))
    if (OWN_TEMPORARY.test(name) && !isLiveTaker(name)) await unlink(join(folder, name)).catch(() => undefined);
}

const namesIn = async (path: string): Promise<string[]> =>
  (await readdir(path)).filter((n) => !isLock(n) && !n.startsWith('.'));

/** Nothing is resumed in, written into or removed from a folder of something else. */
async function mustBeRun(path: string): Promise<void> {
  const names = await namesIn(path);
  const foreign = names.filter((n) => !BEFORE_RECORD.has(n));
  if (foreign.length === 0 || names.includes('config.json')) return;
  throw new MaclError('state', `${path} is not the folder of a run: it holds ${foreign.slice(0, 8).join(', ')}`, {
    file: path,
    found: foreign.slice(0, 8),
  });
}

async function mustBeEmpty(path: string): Promise<void> {
  const names = await namesIn(path);
  if (names.length === 0) return;
  throw new MaclError('state', `${path} is not empty: give another --out, or --resume to go on with what is there`, {
    file: path,
    found: names.slice(0, 8),
  });
}
