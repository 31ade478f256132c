/** Relaxed SIMD, in a process of its own: on Node 20 a V8 flag of the whole process switches it on. */
import { existsSync } from 'node:fs';
import { describe, expect, it } from 'vitest';
import { openBackend } from '../../src/backend/choose.js';
import { supportsRelaxedSimd } from '../../src/backend/relaxed-simd.js';
import { openWasm } from '../../src/backend/wasm.js';
import { enableRelaxedSimd, nodePlatform } from '../../src/backend/wasm-platform-node.js';
import { wasmPath } from '../../src/paths.js';
import { backendSuite } from './suite.js';

const before = supportsRelaxedSimd();
const available = existsSync(wasmPath('relaxed')) && enableRelaxedSimd();

describe.skipIf(!available)('wasm, relaxed SIMD', () => {
  backendSuite((options) => openWasm(nodePlatform, { isa: 'relaxed-simd', ...options }));

  it('is what the wasm device takes once it is switched on', async () => {
    const backend = await openBackend('wasm', { threads: 1 });
    expect(backend.info.isa).toBe('relaxed-simd');
    await backend.close();
  });
  it('is off on Node 20 until it is asked for', () => {
    expect(before).toBe(Number(process.versions.node.split('.')[0]) >= 22);
  });
});
