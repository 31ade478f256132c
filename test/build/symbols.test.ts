// The library of one instruction set exports its kernel table and nothing else. A weak or unique symbol in it could be
// the copy of an inline function that the linker keeps, and an older processor would stop on its instructions.
import { spawnSync } from 'node:child_process';
import { existsSync } from 'node:fs';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
import { packageRoot } from '../../src/paths.js';

const release = path.join(packageRoot(), 'build', 'Release');
const isas = ['avx512', 'avx2', 'baseline', 'plain', 'ref64'];
const hasNm = spawnSync('nm', ['--version']).status === 0;

/** Lines of `nm` as [type letter, symbol]; undefined symbols have no address. */
function symbols(file: string): [string, string][] {
  const { status, stdout, stderr } = spawnSync('nm', ['-C', file], { encoding: 'utf8' });
  expect(status, stderr).toBe(0);
  return [...stdout.matchAll(/^[0-9a-f ]{16} ([A-Za-z]) (.+)$/gm)].map((match) => [match[1]!, match[2]!]);
}

describe.each(isas)('libmacl for %s', (isa) => {
  const file = [`macl_${isa}.a`, `libmacl_${isa}.a`]
    .map((name) => path.join(release, name))
    .find((candidate) => existsSync(candidate));

  it.skipIf(!hasNm || file === undefined)('exports its kernel tables and no weak symbol', () => {
    const all = symbols(file!);
    expect(all.length).toBeGreaterThan(0);
    expect(all.filter(([type]) => 'WVuvwi'.includes(type))).toEqual([]);
    expect(
      all
        .filter(([type]) => 'TDBRSC'.includes(type))
        .map(([, name]) => name)
        .sort(),
    ).toEqual(
      isa === 'avx512'
        ? ['macl_kernels_amx', 'macl_kernels_avx512', 'macl_kernels_avx512bf16']
        : [`macl_kernels_${isa}`],
    );
  });
});
