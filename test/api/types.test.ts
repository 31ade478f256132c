/** Every type that a declaration of the package mentions can be imported by its name. */
import { existsSync, readFileSync } from 'node:fs';
import { join } from 'node:path';
import { expect, it } from 'vitest';
import { packageRoot } from '../../src/paths.js';

/** Parts of other types that have no meaning of their own. */
const PARTS = ['Abortable', 'Common', 'CommonInput', 'Some'];

const built = existsSync(join(packageRoot(), 'dist/index.d.ts'));

it.skipIf(!built).each(['index.d.ts', 'index.d.cts'])('%s exports what it declares', (name) => {
  const file = join(packageRoot(), 'dist', name);
  const text = readFileSync(file, 'utf8');
  const exported = new Set(
    [...text.matchAll(/^export \{([^}]*)\}/gm)].flatMap(([, list]) =>
      list!.split(',').map(
        (one) =>
          one
            .trim()
            .replace(/^type /, '')
            .split(' as ')[0]!,
      ),
    ),
  );
  const declared = [...text.matchAll(/^(?:declare )?(?:interface|type|class) (\w+)/gm)].map(([, word]) => word!);
  expect(declared.length).toBeGreaterThan(50);
  expect(declared.filter((word) => !exported.has(word) && !PARTS.includes(word))).toEqual([]);
});
