// The kernels compile for arm64 too: with a cross compiler where one is on the machine (MACL_ARM64_CXX, or g++ for
// aarch64, or zig from PyPI), else only the front end of the clang that npm brings, which knows the target but cannot
// write its code.
import { spawnSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { describe, expect, it } from 'vitest';
// @ts-expect-error a plain script without types
import { nativeTree } from '../../scripts/build-wasm.mjs';
import { packageRoot } from '../../src/paths.js';

const flags = ['-std=c++20', '-O3', '-ffp-contract=fast', '-fno-exceptions', '-fno-rtti', '-Inative', '-Wno-psabi'];
const isas = ['baseline', 'plain', 'ref64'];
const defines = (isa: string) => [`-DMACL_ISA=${isa}`, `-DMACL_ISA_${isa.toUpperCase()}`];

function findCrossCompiler(): string[] | undefined {
  const candidates = [
    process.env.MACL_ARM64_CXX?.split(' '),
    ['aarch64-linux-gnu-g++'],
    ['python3', '-m', 'ziglang', 'c++', '-target', 'aarch64-linux-gnu'],
  ];
  return candidates.find((words) => words && spawnSync(words[0]!, [...words.slice(1), '--version']).status === 0);
}
const cross = findCrossCompiler();
type Run = (args: string[] | null, files: object, options: object) => unknown; // its types name neither
const clang = (await import('@yowasp/clang').catch(() => undefined)) as { runClang: Run; runLLVM: Run } | undefined;

describe.each(isas)('kernels for arm64, %s', (isa) => {
  it.skipIf(clang === undefined)('pass the front end', async () => {
    await clang!.runLLVM(null, {}, { fetchProgress: () => {} });
    const said: Uint8Array[] = [];
    const hear = (bytes: Uint8Array | null) => void (bytes && said.push(bytes));
    const args = ['clang++', '--target=aarch64-linux-gnu', ...flags, ...defines(isa), '-fsyntax-only'];
    const tree = nativeTree(['native/ops', 'native/kernels']);
    const failed = await Promise.resolve(
      clang!.runClang([...args, 'native/kernels/table.cc'], tree, { stdout: hear, stderr: hear }),
    ).then(
      () => '',
      (error: Error) => `${Buffer.concat(said).toString()}${error.message}`,
    );
    expect(failed).toBe('');
  });

  it.skipIf(cross === undefined)('are compiled by a cross compiler', () => {
    const folder = mkdtempSync(path.join(os.tmpdir(), 'macl-arm64-'));
    try {
      const args = [...cross!.slice(1), ...flags, ...defines(isa), '-c', 'native/kernels/table.cc'];
      const made = spawnSync(cross![0]!, [...args, '-o', path.join(folder, 'table.o')], {
        cwd: packageRoot(),
        encoding: 'utf8',
      });
      expect(made.status, made.stderr).toBe(0);
    } finally {
      rmSync(folder, { recursive: true, force: true });
    }
  });
});
