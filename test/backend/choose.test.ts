/** Choosing a backend, saying why, and that all backends describe the same kernels. */
import { existsSync } from 'node:fs';
import { afterEach, describe, expect, it, vi } from 'vitest';
import { loadAddon } from '../../src/backend/addon.js';
import { openBackend, reportBackends } from '../../src/backend/choose.js';
import { availableThreads, cpuQuota, freeBytes } from '../../src/backend/limits-node.js';
import { SEGMENT_ORDER } from '../../src/backend/records.js';
import type { Backend, BackendName } from '../../src/backend/types.js';
import { openWasm, openWasmReference } from '../../src/backend/wasm.js';
import { nodePlatform } from '../../src/backend/wasm-platform-node.js';
import { SEGMENTS } from '../../src/graph/types.js';
import { cudaAddonPath } from '../../src/paths.js';
import { failure } from './suite.js';

const addon = loadAddon();
const hasAddon = typeof addon !== 'string';
const reports = await reportBackends();
const has = (name: BackendName) => reports.find((r) => r.name === name)?.available === true;

afterEach(() => vi.unstubAllEnvs());

describe('choosing', () => {
  it('takes the first that works, and says why', async () => {
    const backend = await openBackend('auto', { threads: 1 });
    expect(backend.info.name).toBe(has('cuda') ? 'cuda' : hasAddon ? 'cpu' : 'wasm');
    if (!has('cuda')) expect(backend.info.why).toContain(`cuda: ${reports[0]?.reason}; `);
    expect(backend.info.maxBytes).toBeGreaterThan(0);
    await backend.close();
  });
  it('never falls back from an explicit device', async () => {
    const missing = await failure(() => openBackend('cuda:99'));
    expect(missing).toMatchObject({ code: 'device', message: expect.stringMatching(/^cuda:99: /) });
    if (!has('cuda')) expect(missing.message).toBe(`cuda:99: ${reports[0]?.reason}`);
    expect(await failure(() => openBackend('cpu:1' as 'cuda:1'))).toMatchObject({ code: 'device' });
    expect(await failure(() => openBackend('tpu' as 'cuda'))).toMatchObject({ code: 'device' });
    expect(await failure(() => openBackend('auto', { isa: 'nothing' }))).toMatchObject({ code: 'device' });
  });
  it('takes fusions from fast backends and none from the reference', async () => {
    const reference = await openBackend('reference', { threads: 1 });
    expect(reference.info).toMatchObject({ name: 'reference', real: 'f64', isa: 'ref64' });
    expect(reference.info.fusions.size).toBe(0);
    const fast = await openBackend('auto', { threads: 1 });
    expect(fast.info.fusions.size).toBe(4);
    await Promise.all([reference.close(), fast.close()]);
  });
  it('reports all, in order, each with a reason; the host executor only where it was built', () => {
    const built = existsSync(cudaAddonPath(true)) ? ['cuda-host'] : [];
    expect(reports.map((r) => r.name)).toEqual(['cuda', 'cpu', 'wasm', 'reference', ...built]);
    for (const r of reports) {
      expect(r.reason).not.toBe('');
      expect(r.isas.length > 0).toBe(r.available);
    }
    expect(has('reference')).toBe(true);
  });
  it.skipIf(!hasAddon)('heeds MACL_ISA where it is known, and an option before it', async () => {
    vi.stubEnv('MACL_ISA', 'plain');
    const plain = await openBackend('cpu', { threads: 1 });
    const named = await openBackend('cpu', { threads: 1, isa: 'baseline' });
    const reference = await openBackend('reference', { threads: 1 });
    expect([plain.info.isa, named.info.isa, reference.info.isa]).toEqual(['plain', 'baseline', 'ref64']);
    vi.stubEnv('MACL_ISA', 'simd128');
    const best = await openBackend('cpu', { threads: 1 });
    expect(reports[1]?.isas[0]).toBe(best.info.isa);
    await Promise.all([plain, named, reference, best].map((b) => b.close()));
  });
});

describe('reflection', () => {
  it.skipIf(!has('wasm') || !hasAddon)('is the same on every backend and instruction set', async () => {
    if (typeof addon === 'string') return;
    const tables = addon.describe().tables;
    const [first] = tables;
    expect(first?.kernels.length).toBeGreaterThan(20);
    for (const t of tables) {
      const of = (isa: string) => t.kernels.map((k) => ({ isa, name: k.name, tensors: k.tensors, attrs: k.attrs }));
      expect(of('')).toEqual(
        first?.kernels.map((k) => ({ isa: '', name: k.name, tensors: k.tensors, attrs: k.attrs })),
      );
    }
    const opened: Backend[] = [];
    for (const isa of ['simd128', 'plain']) opened.push(await openWasm(nodePlatform, { isa, threads: 1 }));
    opened.push(await openWasmReference(nodePlatform, { threads: 1 }));
    for (const backend of opened) {
      // Phases belong to an implementation; names, tensors and attributes are the contract.
      const { kernels, isa } = backend.info;
      const mine = kernels.map((k) => ({ isa, name: k.name, tensors: k.tensors, attrs: k.attrs }));
      expect(mine).toEqual(first?.kernels.map((k) => ({ isa, name: k.name, tensors: k.tensors, attrs: k.attrs })));
      await backend.close();
    }
  });
  it('has the segments in the order of their numbers', () => {
    expect(Object.fromEntries(SEGMENT_ORDER.map((name, i) => [name, i]))).toEqual(SEGMENTS);
  });
});

describe('limits of the process', () => {
  const files = (all: Record<string, string>) => (file: string) => all[file] ?? null;
  it('heeds the CPU quota of any cgroup above', () => {
    expect(cpuQuota(files({}))).toBe(Infinity);
    const v2 = files({
      '/proc/self/cgroup': '0::/a/b\n',
      '/sys/fs/cgroup/a/b/cpu.max': 'max 100000\n',
      '/sys/fs/cgroup/a/cpu.max': '250000 100000\n',
    });
    expect(cpuQuota(v2)).toBe(2.5);
    expect(availableThreads(v2, 8)).toBe(2);
    expect(availableThreads(v2, 1)).toBe(1);
    const v1 = files({
      '/proc/self/cgroup': '4:cpu,cpuacct:/x\n0::/\n',
      '/sys/fs/cgroup/cpu/x/cpu.cfs_quota_us': '50000\n',
      '/sys/fs/cgroup/cpu/x/cpu.cfs_period_us': '100000\n',
      '/sys/fs/cgroup/cpu/cpu.cfs_quota_us': '-1\n',
    });
    expect(cpuQuota(v1)).toBe(0.5);
    expect(availableThreads(v1, 8)).toBe(1);
  });
  it('takes the least of what the system, the cgroup and the address space leave', () => {
    const system = { '/proc/meminfo': 'MemTotal: 4000 kB\nMemAvailable:    2000 kB\n' };
    expect(freeBytes(files({}), 77)).toBe(77);
    expect(freeBytes(files(system), 77)).toBe(2000 * 1024);
    const cgroup = {
      ...system,
      '/proc/self/cgroup': '0::/\n',
      '/sys/fs/cgroup/memory.max': '1000000\n',
      '/sys/fs/cgroup/memory.current': '700000\n',
      '/sys/fs/cgroup/memory.stat': 'anon 1\ninactive_file 100000\n',
    };
    expect(freeBytes(files(cgroup), 77)).toBe(400_000);
    const ulimit = {
      ...cgroup,
      '/proc/self/limits': 'Max address space         300000000            300000000            bytes\n',
      '/proc/self/status': 'VmSize:\t  292900 kB\n',
    };
    expect(freeBytes(files(ulimit), 77)).toBe(300_000_000 - 292_900 * 1024);
    expect(
      freeBytes(files({ ...system, '/proc/self/limits': 'Max address space  unlimited unlimited bytes\n' }), 77),
    ).toBe(2000 * 1024);
  });
});
