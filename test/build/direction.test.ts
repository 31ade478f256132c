// The lint rule that holds the direction of imports finds what it is there to find.
import path from 'node:path';
import { Linter } from 'eslint';
import { describe, expect, it } from 'vitest';
// @ts-expect-error a plain script without types
import { direction } from '../../scripts/eslint-direction.mjs';
import { packageRoot } from '../../src/paths.js';

const linter = new Linter({ cwd: packageRoot() });
const config: Linter.Config = {
  files: ['**/*.ts'],
  plugins: { macl: { rules: { direction } } },
  rules: { 'macl/direction': 'error' },
};
const complaints = (file: string, code: string) =>
  linter.verify(code, config, { filename: path.join(packageRoot(), file) }).map((message) => message.messageId);

describe('imports point from cli down to backend', () => {
  it.each([
    ['src/ops/conv3d.ts', `import { UNet } from '../nn/unet.js';`, 'direction'],
    ['src/graph/plan.ts', `export * from '../ops/index.js';`, 'direction'],
    ['src/backend/cpu.ts', `import { plan } from '../graph/plan.js';`, 'direction'],
    ['src/nn/unet.ts', `const d = await import('../data/nifti.js');`, 'direction'],
    ['src/segment/sliding.ts', `import { train } from '../train/loop.js';`, 'direction'],
    ['src/graph/plan.ts', `import fs from 'node:fs';`, 'node'],
    ['src/methods/macl.ts', `import path from 'path';`, 'node'],
    ['src/cli/main.ts', `import x from '../../bench/x.js';`, 'outside'],
    ['src/novel/a.ts', `import { MaclError } from '../errors.js';`, 'unknown'],
  ])('%s must not: %s', (file, code, message) => {
    expect(complaints(file, code)).toEqual([message]);
  });

  it.each([
    ['src/cli/main.ts', `import { loop } from '../train/loop.js'; import fs from 'node:fs';`],
    ['src/nn/unet.ts', `import { conv3d } from '../ops/index.js'; import { helper } from './layers.js';`],
    ['src/backend/session.ts', `import { DTYPES } from '../graph/types.js';`],
    ['src/data/nifti/index.ts', `import fs from 'node:fs'; import { MaclError } from '../errors.js';`],
    ['test/data/nifti.test.ts', `import { main } from '../../src/cli/main.js';`],
  ])('%s may: %s', (file, code) => {
    expect(complaints(file, code)).toEqual([]);
  });
});
