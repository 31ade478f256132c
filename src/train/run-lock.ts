/**
 * The lock of a run's folder: files `lock.1`, `lock.2`, … of which the highest counts. It holds pid and start time of its
 * owner. A dead owner's lock is taken over by making the next one, which only one of several takers can; it appears with
 * its content (a link to a file that is written already), so that no reader takes half a lock for a dead one.
 */
import { constants } from 'node:fs';
import { randomBytes } from 'node:crypto';
import { copyFile, link, readdir, readFile, unlink, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { asFileError, isDamage, readTextFile, systemCode, temporaryName } from '../data/files.js';
import { parseJson } from '../data/json.js';
import { MaclError } from '../errors.js';

const LOCK = /^lock\.(\d{1,9})$/;
const MOST_ATTEMPTS = 20;
/** What file systems without hard links answer. */
const NO_LINKS = ['EPERM', 'ENOTSUP', 'EOPNOTSUPP', 'ENOSYS', 'EMLINK'];

export const isLock = (name: string): boolean => LOCK.test(name);

/** Whether a temporary file's name is that of a process that may be about to take the lock. */
export function isLiveTaker(name: string): boolean {
  const pid = /^\.lock\.(\d+)\./.exec(name)?.[1];
  return pid !== undefined && isAlive(Number(pid));
}

interface Owner {
  readonly pid: number;
  /** Start time of the process, so that a reused pid is not taken for it. */
  readonly start: string;
  /** Tells this taking of the lock from every other. */
  readonly token: string;
}

/** A lock that was taken. */
export interface Lock {
  readonly path: string;
  readonly content: string;
}

/** No lock of ours is longer. */
const MAX_BYTES = 4096;

/** The content of a lock; null where it is not there. What cannot be read may be held by somebody, and is an error. */
async function contentOf(path: string): Promise<string | null> {
  try {
    return await readTextFile(path, MAX_BYTES);
  } catch (error) {
    if (systemCode((error as MaclError).cause) === 'ENOENT') return null;
    // Nobody wrote this as a lock.
    if (isDamage(error)) return '';
    throw error;
  }
}

/** Whether the folder still holds it: false where it was removed or exchanged. */
export async function isHeld(lock: Lock): Promise<boolean> {
  return (await contentOf(lock.path)) === lock.content;
}

/** Gives it back; another's in its place stays. */
export async function release(lock: Lock): Promise<void> {
  if (await isHeld(lock).catch(() => false)) await unlink(lock.path).catch(() => undefined);
}

/** Takes the lock. Throws MaclError `locked` while its owner lives. */
export async function take(folder: string): Promise<Lock> {
  const self: Owner = {
    pid: process.pid,
    start: (await startTimeOf(process.pid)) ?? 'unknown',
    token: randomBytes(8).toString('hex'),
  };
  const content = JSON.stringify(self);
  const own = temporaryName(join(folder, 'lock'));
  try {
    await writeFile(own, content, { flag: 'wx' });
    for (let attempt = 0; attempt < MOST_ATTEMPTS; attempt++) {
      const held = await locksIn(folder);
      const top = held.at(-1);
      if (top) await mustBeDead(top.path);
      const number = (top?.number ?? 0) + 1;
      const path = join(folder, `lock.${number}`);
      if (!(await appear(own, path))) continue;
      // Another taker may have been here between the look and the link, and have gone further.
      if ((await locksIn(folder)).some((l) => l.number > number)) {
        await unlink(path).catch(() => undefined);
        continue;
      }
      for (const old of held) await unlink(old.path).catch(() => undefined);
      return { path, content };
    }
  } catch (error) {
    throw asFileError(error, folder, 'write');
  } finally {
    await unlink(own).catch(() => undefined);
  }
  throw new MaclError('locked', `${folder}: its lock could not be taken`, { file: folder });
}

/** False where the path is there already. */
async function appear(own: string, path: string): Promise<boolean> {
  try {
    await link(own, path).catch(async (error: unknown) => {
      if (!NO_LINKS.includes(systemCode(error) ?? '')) throw error;
      await copyFile(own, path, constants.COPYFILE_EXCL);
    });
    return true;
  } catch (error) {
    if (systemCode(error) === 'EEXIST') return false;
    throw error;
  }
}

/** Lowest first. */
async function locksIn(folder: string): Promise<{ number: number; path: string }[]> {
  return (await readdir(folder))
    .flatMap((name) => {
      const number = LOCK.exec(name)?.[1];
      return number === undefined ? [] : [{ number: Number(number), path: join(folder, name) }];
    })
    .sort((a, b) => a.number - b.number);
}

async function mustBeDead(path: string): Promise<void> {
  const { pid, start: began } = ownerIn((await contentOf(path)) ?? '');
  if (typeof pid !== 'number' || !Number.isSafeInteger(pid) || pid <= 0) return;
  const start = await startTimeOf(pid);
  if (start === null || (start !== began && start !== 'unknown')) return;
  throw new MaclError('locked', `${path}: process ${pid} is writing to this run`, { file: path, found: pid });
}

/** What a lock says; nothing where it was released meanwhile, or is not what a run writes whole: then it is nobody's. */
function ownerIn(content: string): { readonly pid?: unknown; readonly start?: unknown } {
  try {
    const value = parseJson(content);
    return typeof value === 'object' && value !== null ? value : {};
  } catch {
    // The text is at hand: nothing but JSON can be wrong here.
    return {};
  }
}

/** Clock ticks since boot at which a process began; 'unknown' where the system does not say, null where it is not there. */
async function startTimeOf(pid: number): Promise<string | null> {
  try {
    const text = await readFile(`/proc/${pid}/stat`, 'utf8');
    const [state, ...fields] = text.slice(text.lastIndexOf(')') + 2).split(' ');
    // A zombie is dead; only its parent has not asked yet.
    if (state === 'Z' || state === 'X') return null;
    return fields[18] ?? null;
  } catch {
    // No /proc here, or the process is gone, or is nobody's business: the system says which.
    return isAlive(pid) ? 'unknown' : null;
  }
}

function isAlive(pid: number): boolean {
  try {
    process.kill(pid, 0);
    return true;
  } catch (error) {
    return systemCode(error) === 'EPERM';
  }
}
