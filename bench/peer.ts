/**
 * Another framework's side of a benchmark, in a process of its own, which takes its turns: tools/bench/peer.py, or
 * tools/bench/ort-web.mjs on the network that peer.py has exported.
 */
import { execFileSync, spawn, type ChildProcessByStdio } from 'node:child_process';
import { existsSync, mkdirSync, readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';
import type { BackendName } from '../src/backend/types.js';
import type { Precision } from '../src/precision.js';

/** What peers there are for a work; the best of PyTorch's counts. */
export const TORCH_PEERS = ['eager', 'channels-last', 'compiled'] as const;
export const RUNTIME_PEERS = ['onnxruntime', 'openvino'] as const;
export const WEB_PEERS = ['onnxruntime-web'] as const;
export type PeerName = (typeof TORCH_PEERS | typeof RUNTIME_PEERS | typeof WEB_PEERS)[number];

export const isTorch = (name: PeerName): boolean => (TORCH_PEERS as readonly string[]).includes(name);

/** Those that run where ours does, and compute in what is asked for. */
export function peersFor(device: BackendName, mode: Precision): readonly PeerName[] {
  if (device === 'wasm') return mode === 'fp32' ? WEB_PEERS : [];
  return mode === 'fp32' ? [...TORCH_PEERS, ...RUNTIME_PEERS] : [...TORCH_PEERS, 'openvino'];
}

const ENVIRONMENT = path.join('.cache', 'peers');
const PACKAGES = ['numpy', 'safetensors', 'setuptools', 'onnx', 'onnxruntime', 'openvino'];

/** The environment's Python, set up where `install` asks for it. Null where there is none, or no registry to set it up from. */
export function peerPython(given: string | undefined, install: boolean): string | null {
  if (given) return given;
  const python = path.join(ENVIRONMENT, 'bin', 'python');
  const ready = path.join(ENVIRONMENT, 'ready');
  if (existsSync(ready)) return python;
  if (!install) return null;
  const pip = (...args: string[]) =>
    execFileSync(python, ['-m', 'pip', 'install', '-q', ...args], { stdio: 'inherit' });
  return installed(() => {
    execFileSync('python3', ['-m', 'venv', ENVIRONMENT], { stdio: 'inherit' });
    try {
      pip('torch', '--index-url', 'https://download.pytorch.org/whl/cpu');
    } catch {
      pip('torch'); // larger: with what GPUs need
    }
    pip(...PACKAGES);
    writeFileSync(ready, '');
    return python;
  });
}

const WEB = path.join('.cache', 'onnxruntime-web');

/** The folder of the package onnxruntime-web, as `peerPython`: no dependence of the software's. */
function webRuntime(install: boolean): string | null {
  const folder = path.join(WEB, 'node_modules', 'onnxruntime-web');
  if (existsSync(path.join(folder, 'package.json'))) return folder;
  if (!install) return null;
  return installed(() => {
    mkdirSync(WEB, { recursive: true });
    writeFileSync(path.join(WEB, 'package.json'), '{ "private": true }\n');
    const quietly = ['--ignore-scripts', '--no-audit', '--no-fund'];
    execFileSync('npm', ['install', ...quietly, 'onnxruntime-web'], { cwd: WEB, stdio: 'inherit' });
    return folder;
  });
}

function installed(install: () => string): string | null {
  try {
    return install();
  } catch (error) {
    process.stderr.write(
      `macl: the peers could not be installed: ${error instanceof Error ? error.message : String(error)}\n`,
    );
    return null;
  }
}

export interface PeerStep {
  readonly ms: number;
  readonly value: number;
}

interface StartOptions {
  readonly name: PeerName;
  readonly install: boolean;
  readonly environment?: NodeJS.ProcessEnv;
}

export class Peer {
  private constructor(
    private readonly child: ChildProcessByStdio<Writable, Readable, null>,
    private readonly lines: AsyncIterator<string>,
    /** Of the runs that came before the first turn. */
    readonly values: readonly number[],
    readonly versions: Readonly<Record<string, string>>,
  ) {}

  /** Null where it is not there, and cannot be. */
  static async start(python: string, specFile: string, options: StartOptions): Promise<Peer | null> {
    const [program, args] = [python, [path.join('tools', 'bench', 'peer.py'), specFile]];
    const env = { ...process.env, ...options.environment };
    if (options.name !== 'onnxruntime-web') return Peer.spawned(program, args, env);
    const runtime = webRuntime(options.install);
    if (!runtime) return null;
    const model = `${specFile}.onnx`;
    const spec = JSON.parse(readFileSync(specFile, 'utf8')) as object;
    writeFileSync(specFile, JSON.stringify({ ...spec, onnx: model, runtime }));
    execFileSync(program, args, { stdio: ['ignore', 'ignore', 'inherit'], env });
    return Peer.spawned(process.execPath, [path.join('tools', 'bench', 'ort-web.mjs'), specFile], env);
  }

  private static async spawned(program: string, args: readonly string[], env: NodeJS.ProcessEnv): Promise<Peer> {
    const child = spawn(program, args, { stdio: ['pipe', 'pipe', 'inherit'], env });
    const lines = createInterface({ input: child.stdout })[Symbol.asyncIterator]();
    const { ready, values } = JSON.parse(await lineOf(lines)) as { ready: Record<string, string>; values: number[] };
    return new Peer(child, lines, values, ready);
  }

  async step(): Promise<PeerStep> {
    this.child.stdin.write('step\n');
    return JSON.parse(await lineOf(this.lines)) as PeerStep;
  }

  /** Ends it. @returns the most that it held, without the framework */
  async close(): Promise<number> {
    this.child.stdin.end();
    return (JSON.parse(await lineOf(this.lines)) as { peakBytes: number }).peakBytes;
  }

  kill(): void {
    this.child.kill('SIGKILL');
  }
}

async function lineOf(lines: AsyncIterator<string>): Promise<string> {
  for (;;) {
    const { value, done } = await lines.next();
    if (done) throw new Error('the peer ended');
    if (value.startsWith('{')) return value;
  }
}
