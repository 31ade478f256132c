// Where the package finds its own files, from src as from dist.
import { spawnSync } from 'node:child_process';
import { existsSync, readFileSync } from 'node:fs';
import path from 'node:path';
import { pathToFileURL } from 'node:url';
import { describe, expect, it } from 'vitest';
import { addonPath, packageRoot, packageVersion, wasmPath } from '../../src/paths.js';

const root = path.resolve(import.meta.dirname, '..', '..');
const dist = (name: string) => path.join(root, 'dist', name);
const node = (...args: string[]) => spawnSync(process.execPath, args, { encoding: 'utf8', cwd: path.parse(root).root });

describe('the package', () => {
  it('finds its root and its own files from src', () => {
    expect(packageRoot()).toBe(root);
    expect(addonPath()).toBe(path.join(root, 'build', 'Release', 'macl.node'));
    expect(existsSync(wasmPath('simd'))).toBe(true);
    expect(existsSync(wasmPath('relaxed'))).toBe(true);
    expect(packageVersion()).toBe(JSON.parse(readFileSync(path.join(root, 'package.json'), 'utf8')).version);
  });

  it('exports the same names as ESM and as CommonJS', () => {
    const print = 'console.log(JSON.stringify(Object.keys(m).sort()))';
    const cjs = node('-e', `const m = require(${JSON.stringify(dist('index.cjs'))}); ${print}`);
    const url = pathToFileURL(dist('index.js')).href;
    const esm = node('--input-type=module', '-e', `import * as m from ${JSON.stringify(url)}; ${print}`);
    expect(cjs.stderr + esm.stderr).toBe('');
    expect(JSON.parse(cjs.stdout).length).toBeGreaterThan(0);
    expect(cjs.stdout).toBe(esm.stdout);
  });

  it('runs its command line from another folder', () => {
    const { status, stdout, stderr } = node(dist('cli/main.js'), '--version');
    expect(status, stderr).toBe(0);
    expect(stdout.trim()).toBe(packageVersion());
  });
});
