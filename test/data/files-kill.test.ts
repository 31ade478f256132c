/** Atomic writes by a process of its own that dies: killed at random moments, or out of disk. */
import { spawn, spawnSync } from 'node:child_process';
import { existsSync, mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { dirname, join, resolve } from 'node:path';
import ts from 'typescript';
import { describe, expect, it } from 'vitest';
import { Draws } from '../../src/philox.js';
import { testFolder } from './make-nifti.js';

const folder = testFolder();
const src = resolve(import.meta.dirname, '../../src');
const BYTES = 512 * 1024;

/** The writer and what it imports, as JavaScript that a child can run. */
function compile(): string {
  const out = join(folder, 'js');
  mkdirSync(out, { recursive: true });
  writeFileSync(join(out, 'package.json'), '{"type":"module"}');
  const compilerOptions = { target: ts.ScriptTarget.ES2022, module: ts.ModuleKind.ES2022 };
  const names = new Set(['data/files']);
  for (const name of names) {
    const { outputText } = ts.transpileModule(readFileSync(join(src, `${name}.ts`), 'utf8'), { compilerOptions });
    const path = join(out, `${name}.js`);
    mkdirSync(dirname(path), { recursive: true });
    writeFileSync(path, outputText);
    for (const [, from] of outputText.matchAll(/from '(\.[^']+)\.js'/g)) names.add(join(dirname(name), from!));
  }
  return join(out, 'data', 'files.js');
}

const files = compile();
const script = (body: string): string => {
  const path = join(folder, `child-${body.length}.mjs`);
  writeFileSync(path, `import { writeFileAtomic } from ${JSON.stringify(files)};\n${body}`);
  return path;
};

/** A version of the file is one byte, over and over. */
function versionOf(path: string): number {
  const bytes = readFileSync(path);
  expect(bytes.length).toBe(BYTES);
  expect(bytes.every((byte) => byte === bytes[0])).toBe(true);
  return bytes[0]!;
}

describe('a process that dies while it writes', () => {
  it('leaves the previous or the new file whole, at 20 random kills', async () => {
    const path = join(folder, 'killed.bin');
    const child = script(`for (let n = 1; ; n = (n % 250) + 1) {
      const chunks = Array.from({ length: 16 }, () => new Uint8Array(${BYTES / 16}).fill(n));
      await writeFileAtomic(${JSON.stringify(path)}, chunks);
      if (n === 1) process.stdout.write('.');
    }`);
    const draws = new Draws(24, 0, 0, 0);
    const seen = new Set<number>();
    for (let kill = 0; kill < 20; kill++) {
      const running = spawn(process.execPath, [child], { stdio: ['ignore', 'pipe', 'inherit'] });
      const ended = new Promise<void>((done) => running.once('exit', () => done()));
      await new Promise<void>((first) => running.stdout.once('data', () => first()));
      await new Promise((wait) => setTimeout(wait, draws.uniform() * 20));
      running.kill('SIGKILL');
      await ended;
      seen.add(versionOf(path));
    }
    expect(seen.size).toBeGreaterThan(1);
  });

  it('keeps the old file and removes the temporary one where the system refuses more bytes', () => {
    const inner = join(folder, 'limit');
    mkdirSync(inner);
    const path = join(inner, 'full.bin');
    writeFileSync(path, 'old');
    const child = script(`await writeFileAtomic(${JSON.stringify(path)}, new Uint8Array(${BYTES})).then(
      () => process.exit(3),
      (error) => { process.stdout.write(error.code + ' ' + error.details.file); process.exit(1); },
    );`);
    // Blocks of 1 KiB: 64 KiB and no more.
    const limited = ['-c', `ulimit -f 64; exec "${process.execPath}" "${child}"`];
    const { status, stdout } = spawnSync('bash', limited, { encoding: 'utf8' });
    expect([status, stdout]).toEqual([1, `file ${path}`]);
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(readdirSync(inner)).toEqual(['full.bin']);
    expect(existsSync(path)).toBe(true);
  });
});
