// Are the outputs those of today's inputs? A stamp is a hash over the names and contents of the files that a build reads
// and over a few words about the machine; builds write it beside what they made and skip when it is unchanged.
import { createHash } from 'node:crypto';
import { existsSync, mkdirSync, readFileSync, readdirSync, rmSync, statSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { fileURLToPath } from 'node:url';

export const root = fileURLToPath(new URL('..', import.meta.url));

/** Files below the given files and folders (relative to the root; missing ones are left out), sorted. */
export function filesUnder(entries) {
  const found = [];
  const walk = (relative) => {
    const absolute = path.join(root, relative);
    const stat = statSync(absolute, { throwIfNoEntry: false });
    if (stat === undefined) return;
    if (stat.isDirectory()) for (const name of readdirSync(absolute)) walk(path.posix.join(relative, name));
    else found.push(relative);
  };
  entries.forEach(walk);
  return found.sort();
}

export function stampOf(entries, words = []) {
  const hash = createHash('sha256');
  for (const word of words) hash.update(`${word}\0`);
  for (const file of filesUnder(entries)) hash.update(`${file}\0`).update(readFileSync(path.join(root, file)));
  return hash.digest('hex');
}

export function readStamp(file) {
  const absolute = path.join(root, file);
  return existsSync(absolute) ? readFileSync(absolute, 'utf8').trim() : '';
}

export function writeStamp(file, stamp) {
  mkdirSync(path.dirname(path.join(root, file)), { recursive: true });
  writeFileSync(path.join(root, file), `${stamp}\n`);
}

/** The version of an installed package, or '' where it is not installed. */
export function installedVersion(name) {
  const file = path.join(root, 'node_modules', name, 'package.json');
  return existsSync(file) ? JSON.parse(readFileSync(file, 'utf8')).version : '';
}

/**
 * Runs `work` while no other build of the same name runs in this checkout; waits up to two minutes, then takes over from
 * whoever died.
 */
export async function exclusively(name, work) {
  const lock = path.join(root, 'node_modules', `.macl-${name}.lock`);
  if (!existsSync(path.dirname(lock))) return work();
  for (let waited = 0; ; waited += 100) {
    try {
      mkdirSync(lock);
      break;
    } catch (error) {
      if (error.code !== 'EEXIST') return work();
      if (waited > 120_000) rmSync(lock, { recursive: true, force: true });
      await new Promise((resolve) => setTimeout(resolve, 100));
    }
  }
  const release = () => rmSync(lock, { recursive: true, force: true });
  process.once('exit', release);
  try {
    return await work();
  } finally {
    release();
    process.off('exit', release);
  }
}
