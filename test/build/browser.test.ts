/**
 * What a browser is to run imports no Node module, however far away: the WebAssembly backend with a platform passed in, the
 * compiler, networks, methods, everything of segmentation, and the prediction of a volume in memory with given weights.
 */
import { mkdtempSync, readdirSync, rmSync, writeFileSync } from 'node:fs';
import { isBuiltin } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import { describe, expect, it } from 'vitest';
import { closureOf, importsOf, nodeGlobalsOf } from './imports.js';

const src = fileURLToPath(new URL('../../src/', import.meta.url));
const folder = (name: string) =>
  readdirSync(path.join(src, name), { recursive: true, encoding: 'utf8' })
    .filter((file) => file.endsWith('.ts'))
    .map((file) => path.join(src, name, file));

/** Packages that run in a browser as they are. */
const PACKAGES: readonly string[] = [];

const ENTRIES: Readonly<Record<string, readonly string[]>> = {
  'the WebAssembly backend': [path.join(src, 'backend/wasm.ts')],
  'the compiler': [...folder('graph'), ...folder('ops')],
  networks: [...folder('nn'), ...folder('losses')],
  methods: folder('methods'),
  segmentation: folder('segment'),
  'prediction of a volume in memory': [path.join(src, 'predict/network.ts'), path.join(src, 'predict/predictor.ts')],
};

describe('a browser', () => {
  it.each(Object.entries(ENTRIES))('can run %s: nothing of Node in the closure of its imports', (_, entries) => {
    const { outside, files } = closureOf(entries);
    const show = (chain: readonly string[]) =>
      chain.map((step) => (path.isAbsolute(step) ? path.relative(src, step) : step)).join(' → ');
    const modules = [...outside].filter(([name]) => isBuiltin(name) || !PACKAGES.includes(name));
    expect(modules.map(([, chain]) => show(chain))).toEqual([]);
    const globals = [...files].flatMap(([file, chain]) =>
      nodeGlobalsOf(file).map((name) => `${show(chain)} uses ${name}`),
    );
    expect(globals).toEqual([]);
  });
});

describe('the walk over imports', () => {
  it('sees what is Node’s alone among globals', () => {
    const at = mkdtempSync(path.join(tmpdir(), 'macl-imports-'));
    const file = path.join(at, 'globals.ts');
    try {
      writeFileSync(
        file,
        "const own = { process: 1 };\nown.process += typeof setImmediate === 'function' ? 1 : 0;\nexport type B = Buffer;\n" +
          'export const here = (b: Buffer) => process.cwd() + String(b);\n',
      );
      expect(nodeGlobalsOf(file)).toEqual(['process']);
    } finally {
      rmSync(at, { recursive: true, force: true });
    }
  });
  it('sees static, dynamic and re-exported ones, through files, and not those of types alone', () => {
    const at = mkdtempSync(path.join(tmpdir(), 'macl-imports-'));
    const write = (name: string, text: string) => (writeFileSync(path.join(at, name), text), path.join(at, name));
    try {
      write('far.ts', "export const read = async () => (await import('node:fs')).readFileSync;\n");
      write('types.ts', "import os from 'node:os';\nexport type Cpus = ReturnType<typeof os.cpus>;\n");
      const entry = write(
        'entry.ts',
        "import type { Stats } from 'node:fs';\nimport { type URL } from 'node:url';\nimport type { Cpus } from './types.js';\n" +
          "export type { Cpus, Stats, URL };\nexport * from './far.js';\nimport 'side-effect';\n",
      );
      expect(importsOf(entry)).toEqual(['./far.js', 'side-effect']);
      expect([...closureOf([entry]).outside]).toEqual([
        ['side-effect', [entry, 'side-effect']],
        ['node:fs', [entry, path.join(at, 'far.ts'), 'node:fs']],
      ]);
    } finally {
      rmSync(at, { recursive: true, force: true });
    }
  });
});
