/**
 * What this process may use of the machine: threads (affinity, the cgroup's CPU quota) and memory (what is available,
 * the cgroup's limit, the address-space limit). Reads /proc and /sys where they are. Needs Node; the wasm backend gets
 * these numbers through its platform.
 */
import { readFileSync } from 'node:fs';
import os from 'node:os';

/** Text of a file, or null where it is not to be had. Tests pass their own. */
export type ReadText = (file: string) => string | null;

const readText: ReadText = (file) => {
  try {
    return readFileSync(file, 'utf8');
  } catch {
    return null;
  }
};

/** A number of bytes or microseconds; null for `max`, for what is missing, and for v1's "no limit" (near 2^63). */
function limit(text: string | null): number | null {
  const value = Number(text?.trim().split(/\s+/)[0] || NaN);
  return Number.isFinite(value) && value >= 0 && value < 2 ** 60 ? value : null;
}

/** This process's cgroup folders, innermost first: a limit of any of them counts. */
function cgroupFolders(read: ReadText, controller: 'cpu' | 'memory'): { v2: string[]; v1: string[] } {
  const up = (root: string, inner: string): string[] => {
    const parts = inner.split('/').filter((p) => p !== '' && p !== '..');
    return parts
      .reduceRight<string[]>((all, _, i) => [...all, `${root}/${parts.slice(0, i + 1).join('/')}`], [])
      .concat(root);
  };
  const lines = (read('/proc/self/cgroup') ?? '').split('\n').map((line) => line.split(':'));
  const v2 = lines
    .find(([id]) => id === '0')
    ?.slice(2)
    .join(':');
  const v1 = lines
    .find(([, names]) => names?.split(',').includes(controller))
    ?.slice(2)
    .join(':');
  return { v2: up('/sys/fs/cgroup', v2 ?? ''), v1: up(`/sys/fs/cgroup/${controller}`, v1 ?? '') };
}

/** Cores of CPU time that the cgroup grants; Infinity without a quota. */
export function cpuQuota(read: ReadText = readText): number {
  const { v2, v1 } = cgroupFolders(read, 'cpu');
  const quotas = v2.map((folder) => {
    const [quota, period] = (read(`${folder}/cpu.max`) ?? '').trim().split(/\s+/);
    const q = limit(quota ?? null);
    return q === null ? Infinity : q / (limit(period ?? null) || 100_000);
  });
  for (const folder of v1) {
    const q = limit(read(`${folder}/cpu.cfs_quota_us`));
    if (q !== null) quotas.push(q / (limit(read(`${folder}/cpu.cfs_period_us`)) || 100_000));
  }
  return Math.min(Infinity, ...quotas);
}

/** Threads that can run at once: cores by affinity, but no more than the quota feeds. */
export function availableThreads(read: ReadText = readText, cores: number = os.availableParallelism()): number {
  return Math.max(1, Math.min(cores, Math.floor(cpuQuota(read))));
}

/** Bytes that this process can still take. */
export function freeBytes(read: ReadText = readText, systemFree: number = os.freemem()): number {
  const available = /^MemAvailable:\s+(\d+) kB/m.exec(read('/proc/meminfo') ?? '')?.[1];
  const free = [available === undefined ? systemFree : Number(available) * 1024];
  const { v2, v1 } = cgroupFolders(read, 'memory');
  const left = (most: number | null, used: number | null, stat: string | null): void => {
    if (most === null || used === null) return;
    // Cached file pages count as used but are given up first.
    const cached = Number(/^(?:total_)?inactive_file (\d+)/m.exec(stat ?? '')?.[1] ?? 0);
    free.push(Math.max(0, most - Math.max(0, used - cached)));
  };
  for (const f of v2)
    left(limit(read(`${f}/memory.max`)), limit(read(`${f}/memory.current`)), read(`${f}/memory.stat`));
  for (const f of v1) {
    left(
      limit(read(`${f}/memory.limit_in_bytes`)),
      limit(read(`${f}/memory.usage_in_bytes`)),
      read(`${f}/memory.stat`),
    );
  }
  const space = /^Max address space\s+(\d+)/m.exec(read('/proc/self/limits') ?? '')?.[1];
  const taken = /^VmSize:\s+(\d+) kB/m.exec(read('/proc/self/status') ?? '')?.[1];
  if (space !== undefined && taken !== undefined) free.push(Math.max(0, Number(space) - Number(taken) * 1024));
  return Math.min(...free);
}
