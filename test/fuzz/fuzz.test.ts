/** A short run of every fuzzer over fixed numbers; `npm run fuzz` goes on from there. */
import { mkdtempSync, rmSync } from 'node:fs';
import { tmpdir } from 'node:os';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { MaclError } from '../../src/errors.js';
import { fuzz, type Target } from '../../fuzz/target.js';
import { TARGETS } from '../../fuzz/targets.js';

/** Executions that take about two seconds. */
const COUNTS: Readonly<Record<string, number>> = { config: 2000, 'command-line': 60, dataset: 250, program: 600 };

describe('fuzzers', () => {
  it.each(TARGETS.map((t) => [t.name, t] as const))(
    '%s: every input is taken or refused by name',
    async (name, target) => {
      const folder = mkdtempSync(join(tmpdir(), 'macl-fuzz-'));
      try {
        const { accepted, refused, findings } = await fuzz(target, folder, { count: COUNTS[name] ?? 400 });
        expect(findings.map((f) => `${f.number}: ${String(f.error)}`)).toEqual([]);
        // One that takes everything, or nothing, tests nothing. Command lines lead nowhere, so that all of them end in a code.
        expect(accepted).toBeGreaterThan(0);
        if (name !== 'command-line') expect(refused).toBeGreaterThan(0);
      } finally {
        rmSync(folder, { recursive: true, force: true });
      }
    },
  );
  it('report what is neither taken nor refused', async () => {
    const target: Target = {
      name: 'made',
      describe: 'fails at 3',
      run(number) {
        if (number === 3) throw new TypeError('x is not a function');
        if (number === 4) throw new MaclError('file', 'refused');
      },
    };
    const { accepted, refused, findings } = await fuzz(target, '', { count: 6 });
    expect({ accepted, refused, findings: findings.map((f) => f.number) }).toEqual({
      accepted: 4,
      refused: 1,
      findings: [3],
    });
  });
});
