// What scripts/build-cuda.mjs takes for a toolkit and what it refuses, and which architectures it builds for.
import { chmodSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import os from 'node:os';
import path from 'node:path';
import { afterAll, describe, expect, it } from 'vitest';
// @ts-expect-error a plain script without types
import { gencode, toolkit } from '../../scripts/build-cuda.mjs';

const folder = mkdtempSync(path.join(os.tmpdir(), 'macl-cuda-'));
afterAll(() => rmSync(folder, { recursive: true, force: true }));

/** A folder that looks like a toolkit, as an installation (lib64) or as wheels (lib). */
function fake(version: string, lib = 'lib64', without: readonly string[] = []): string {
  const home = path.join(folder, `${version}-${lib}-${without.join('')}`);
  const files = ['bin/nvcc', `${lib}/libcudart_static.a`, 'include/cuda_runtime.h'].filter((f) => !without.includes(f));
  for (const file of files) {
    mkdirSync(path.dirname(path.join(home, file)), { recursive: true });
    writeFileSync(
      path.join(home, file),
      `#!/bin/sh\necho 'Cuda compilation tools, release ${version}, V${version}.0'\n`,
    );
  }
  if (files.includes('bin/nvcc')) chmodSync(path.join(home, 'bin/nvcc'), 0o755);
  return home;
}
const archs = (flags: string[]): string[] => flags.filter((f) => f !== '-gencode').map((f) => f.replace(/^arch=/, ''));

describe.skipIf(process.platform === 'win32')('the toolkit', () => {
  it.each([
    ['12.4', 'lib64'],
    ['12.8', 'lib64'],
    ['13.0', 'lib'],
  ])('%s with %s is taken, from CUDA_HOME and from PATH', (version, lib) => {
    const home = fake(version, lib);
    expect(toolkit({ CUDA_HOME: home })).toMatchObject({ version, lib: path.join(home, lib) });
    expect(toolkit({ PATH: `/nowhere:${path.join(home, 'bin')}` }).version).toBe(version);
  });
  it.each([
    ['11.8', /CUDA 11\.8; 12\.4 to 13 are needed/],
    ['12.3', /CUDA 12\.3/],
    ['14.0', /CUDA 14\.0/],
  ])('%s is refused', (version, message) => {
    expect(() => toolkit({ CUDA_HOME: fake(version) })).toThrow(message);
  });
  it('that is not there or not whole is said to be so', () => {
    expect(() => toolkit({ PATH: '/nowhere' })).toThrow(/no nvcc in PATH.*CUDA_HOME/);
    expect(() => toolkit({ CUDA_HOME: '/nowhere' })).toThrow(/\/nowhere\/bin has no nvcc/);
    const [static_, header] = ['lib64/libcudart_static.a', 'include/cuda_runtime.h'];
    expect(() => toolkit({ CUDA_HOME: fake('12.6', 'lib64', [static_]) })).toThrow(/libcudart_static/);
    expect(() => toolkit({ CUDA_HOME: fake('12.6', 'lib64', [header]) })).toThrow(/cuda_runtime\.h/);
  });
});

describe('architectures', () => {
  it('are those that the toolkit knows, and PTX of the newest', () => {
    const old = ['80', '86', '89', '90a'].map((a) => `compute_${a},code=sm_${a}`);
    expect(archs(gencode(1204))).toEqual([...old, 'compute_90,code=compute_90']);
    const more = ['100', '120'].map((a) => `compute_${a},code=sm_${a}`);
    expect(archs(gencode(1300))).toEqual([...old, ...more, 'compute_120,code=compute_120']);
  });
  it('may be named', () => {
    expect(archs(gencode(1300, '80, 90a'))).toEqual(['compute_80,code=sm_80', 'compute_90a,code=sm_90a']);
    expect(() => gencode(1204, '120')).toThrow(/120; this toolkit makes 80, 86, 89, 90a/);
    expect(() => gencode(1300, '75')).toThrow(/75/);
  });
});
