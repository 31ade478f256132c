/**
 * A run's folder: `config.json`, `log.jsonl`, `checkpoints/`, `model.safetensors`, and a lock that keeps two runs apart.
 * It knows files, not what is trained.
 */
import { open, readdir, stat, unlink, type FileHandle } from 'node:fs/promises';
import { join } from 'node:path';
import {
  asFileError,
  isDamage,
  makeFolder,
  readTextFile,
  readWholeFile,
  systemCode,
  withSafetensors,
  writeFileAtomic,
  writeSafetensorsFile,
  type OpenSafetensors,
} from '../data/files.js';
import { parseJson } from '../data/json.js';
import type { RawTensor, TensorStream } from '../data/safetensors.js';
import { MaclError } from '../errors.js';
import * as lock from './run-lock.js';
import type { Lock } from './run-lock.js';

/** What a run writes, as it is called while it is being written: `.NAME.PID.RANDOM.tmp`. */
const OWN_TEMPORARY =
  /^\.(config\.json|model\.safetensors|lock|best\.safetensors|step-\d{9}\.safetensors)\.\d+\.[0-9a-f]{12}\.tmp$/;
/** What a run's folder may hold before its record is written. */
const BEFORE_RECORD = new Set(['checkpoints', 'log.jsonl']);
/** Kept besides the newest, so that a damaged disk block does not take the run. */
const KEPT_CHECKPOINTS = 2;
const CHECKPOINT = /^step-(\d{9})\.safetensors$/;

/** Longest config.json and log.jsonl that are read. */
const MAX_CONFIG_BYTES = 16 * 2 ** 20;
const MAX_LOG_BYTES = 2 ** 29 - 64;

export interface LoadedCheckpoint<T = unknown> {
  readonly step: number;
  readonly file: string;
  readonly metadata: Readonly<Record<string, string>>;
  /** What `read` made of it. */
  readonly contents: T;
}

type Tensors = ReadonlyMap<string, RawTensor | TensorStream>;

export class RunFolder {
  private log: FileHandle | null = null;
  private pendingLog = '';
  private lastFlushMs = performance.now();
  /** Files that this run has written and must still find. */
  private readonly written = new Set<string>();

  private constructor(
    readonly path: string,
    private readonly lock: Lock,
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
    const taken = await lock.take(path);
    try {
      await check(path);
    } catch (error) {
      await lock.release(taken);
      throw error;
    }
    if (options.resume) for (const folder of [path, join(path, 'checkpoints')]) await sweep(folder);
    return new RunFolder(path, taken);
  }

  /**
   * That the folder is still this run's: what is written after it was removed, or exchanged for another run's, would be
   * lost or would spoil the other. Throws `state`.
   */
  private async mustBeOwn(): Promise<void> {
    const missing = (await lock.isHeld(this.lock)) ? await firstMissing(this.written) : this.lock.path;
    if (missing === undefined) return;
    const what = `${missing} was removed or replaced while this run was writing to ${this.path}`;
    throw new MaclError('state', `${what}: it stops here; what was saved and is still there is all there is`, {
      file: missing,
    });
  }

  file(name: string): string {
    return join(this.path, name);
  }

  /** Begins the run on disk: a start that failed before this leaves the folder empty, ready for another try. */
  async writeConfig(config: unknown): Promise<void> {
    await this.mustBeOwn();
    await makeFolder(this.file('checkpoints'));
    await writeFileAtomic(this.file('config.json'), JSON.stringify(config, null, 2) + '\n');
    this.written.add(this.file('config.json'));
  }

  /** The run's record as it stands on disk, not checked; null where there is none. */
  async readConfig(): Promise<unknown> {
    const file = this.file('config.json');
    const text = await orNull(readTextFile(file, MAX_CONFIG_BYTES));
    if (text === null) return null;
    this.written.add(file);
    try {
      return parseJson(text);
    } catch (cause) {
      throw new MaclError('file', `${file}: not JSON: ${(cause as Error).message}`, { file }, { cause });
    }
  }

  isFinished(): Promise<boolean> {
    return exists(this.file('model.safetensors'));
  }

  /** Writes a checkpoint whole or not at all, then removes all but the newest few. */
  async saveCheckpoint(step: number, tensors: Tensors, metadata: Record<string, string>): Promise<void> {
    await this.flushLog();
    await this.mustBeOwn();
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
    return (await namesOrNone(folder))
      .flatMap((n) => {
        const match = CHECKPOINT.exec(n);
        return match ? [{ step: Number(match[1]), file: join(folder, n) }] : [];
      })
      .sort((a, b) => b.step - a.step);
  }

  /**
   * The newest checkpoint that `read` takes whole. Damaged ones are reported and passed over; one that cannot be read now
   * (no permission, an I/O error) may be whole, and is an error.
   */
  async newestCheckpoint<T>(
    onDamaged: (error: MaclError) => void,
    read: (open: OpenSafetensors) => Promise<T>,
  ): Promise<LoadedCheckpoint<T> | null> {
    for (const { step, file } of await this.checkpointSteps()) {
      try {
        return await withSafetensors(file, async (open) => {
          const { metadata } = open;
          return { step, file, metadata, contents: await read(open) };
        });
      } catch (error) {
        if (!isDamage(error)) throw error;
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
    await this.mustBeOwn();
    const file = this.file('log.jsonl');
    try {
      if (this.log && !(await isSameFile(this.log, file))) {
        // Saved by an editor, say: its new file is the log.
        await this.log.close();
        this.log = null;
      }
      this.log ??= await open(file, 'a');
      this.written.add(file);
      await this.log.appendFile(text);
    } catch (error) {
      throw asFileError(error, file, 'write');
    }
  }

  /**
   * Cuts the log back to the first record that is not kept (and a torn last line off). What is no record before that is
   * left out, and reported.
   */
  async cutLog(
    keeps: (record: Readonly<Record<string, unknown>>) => boolean,
    onDamaged: (message: string) => void = () => undefined,
  ): Promise<void> {
    const file = this.file('log.jsonl');
    const bytes = await orNull(readWholeFile(file, { maxBytes: MAX_LOG_BYTES }));
    if (bytes === null) return;
    const before = Buffer.from(bytes.buffer).toString('utf8');
    const lines = before.split('\n');
    // After the last line end: nothing, or a line that a kill has torn.
    lines.pop();
    const kept: string[] = [];
    const damaged: number[] = [];
    for (const [n, line] of lines.entries()) {
      const record = recordOf(line);
      if (record && !keeps(record)) break;
      if (record) kept.push(line);
      else damaged.push(n + 1);
    }
    if (damaged.length > 0)
      onDamaged(`${file}: lines that are no records were left out: ${damaged.slice(0, 8).join(', ')}`);
    const text = kept.map((line) => `${line}\n`).join('');
    if (text !== before) await writeFileAtomic(file, text);
  }

  async saveModel(tensors: Tensors, metadata: Record<string, string>): Promise<string> {
    await this.flushLog();
    await this.mustBeOwn();
    await writeSafetensorsFile(this.file('model.safetensors'), tensors, metadata);
    return this.file('model.safetensors');
  }

  async close(): Promise<void> {
    try {
      await this.flushLog();
    } finally {
      await this.log?.close().catch(() => undefined);
      this.log = null;
      await lock.release(this.lock);
    }
  }
}

function finiteOrNull(_key: string, value: unknown): unknown {
  return typeof value === 'number' && !Number.isFinite(value) ? null : value;
}

/** Whether something is there; an error that does not say so is an error. */
async function exists(path: string): Promise<boolean> {
  try {
    await stat(path);
    return true;
  } catch (error) {
    if (systemCode(error) === 'ENOENT') return false;
    throw asFileError(error, path, 'read');
  }
}

async function firstMissing(paths: Iterable<string>): Promise<string | undefined> {
  for (const path of paths) if (!(await exists(path))) return path;
  return undefined;
}

async function isSameFile(handle: FileHandle, path: string): Promise<boolean> {
  const [held, named] = await Promise.all([handle.stat({ bigint: true }), stat(path, { bigint: true })]);
  return held.ino === named.ino && held.dev === named.dev;
}

/** Null where the file is not there; every other error stays one. */
function orNull<T>(promise: Promise<T>): Promise<T | null> {
  return promise.catch((error: unknown) => {
    if (error instanceof MaclError && systemCode(error.cause) === 'ENOENT') return null;
    throw error;
  });
}

async function namesOrNone(folder: string): Promise<string[]> {
  return readdir(folder).catch((error: unknown) => {
    if (systemCode(error) === 'ENOENT') return [];
    throw asFileError(error, folder, 'read');
  });
}

/** A record of the log; null where the line is none. */
function recordOf(line: string): Record<string, unknown> | null {
  let value: unknown;
  try {
    value = parseJson(line);
  } catch {
    // The text is at hand: nothing but JSON can be wrong here.
    return null;
  }
  return typeof value === 'object' && value !== null && !Array.isArray(value)
    ? (value as Record<string, unknown>)
    : null;
}

/** Removes what killed writes of this run left. The lock is held, so only files of other takers of it are in use. */
async function sweep(folder: string): Promise<void> {
  for (const name of await namesOrNone(folder))
    if (OWN_TEMPORARY.test(name) && !lock.isLiveTaker(name)) await unlink(join(folder, name)).catch(() => undefined);
}

const namesIn = async (path: string): Promise<string[]> =>
  (await namesOrNone(path)).filter((n) => !lock.isLock(n) && !n.startsWith('.'));

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
