/**
 * The fp32 multiply-add ceiling of this machine: native/bench/ceiling.cc compiled with whatever C++ compiler is there
 * (CXX, g++, c++, clang++) and run. Null where there is none, or the processor is not x86-64.
 */
import { execFileSync } from 'node:child_process';
import { mkdtempSync, rmSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';

/** GFLOP/s of all threads together, by vector width in bits. */
export type Ceiling = Readonly<Record<'128' | '256' | '512', number>>;

export class CeilingMeter {
  private constructor(
    private readonly program: string,
    private readonly threads: number,
  ) {}

  static build(root: string, threads: number): CeilingMeter | null {
    if (process.arch !== 'x64') return null;
    const folder = mkdtempSync(path.join(os.tmpdir(), 'macl-ceiling-'));
    process.on('exit', () => rmSync(folder, { recursive: true, force: true }));
    const program = path.join(folder, 'ceiling');
    const source = path.join(root, 'native', 'bench', 'ceiling.cc');
    for (const compiler of [process.env.CXX, 'g++', 'c++', 'clang++']) {
      if (!compiler) continue;
      try {
        execFileSync(compiler, ['-std=c++20', '-O2', '-pthread', source, '-o', program], { stdio: 'ignore' });
        return new CeilingMeter(program, threads);
      } catch {
        // the next one
      }
    }
    return null;
  }

  measure(): Ceiling {
    return JSON.parse(execFileSync(this.program, [String(this.threads)], { encoding: 'utf8' })) as Ceiling;
  }
}

/** Width in bits of an instruction set's vectors. */
export function bitsOf(isa: string): '128' | '256' | '512' {
  return isa === 'amx' || isa.startsWith('avx512') ? '512' : isa === 'avx2' ? '256' : '128';
}
