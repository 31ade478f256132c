/** Another framework's side of a benchmark: tools/bench/peer.py in a process of its own, which takes its turns. */
import { execFileSync, spawn, type ChildProcessByStdio } from 'node:child_process';
import { existsSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import type { Readable, Writable } from 'node:stream';

/** What peers there are for a work; the best of them counts. */
export const TORCH_PEERS = ['eager', 'channels-last', 'compiled'] as const;
export const RUNTIME_PEERS = ['onnxruntime', 'openvino'] as const;
export type PeerName = (typeof TORCH_PEERS)[number] | (typeof RUNTIME_PEERS)[number];

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
  try {
    execFileSync('python3', ['-m', 'venv', ENVIRONMENT], { stdio: 'inherit' });
    try {
      pip('torch', '--index-url', 'https://download.pytorch.org/whl/cpu');
    } catch {
      pip('torch'); // larger: with what GPUs need
    }
    pip(...PACKAGES);
    writeFileSync(ready, '');
    return python;
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

export class Peer {
  private constructor(
    private readonly child: ChildProcessByStdio<Writable, Readable, null>,
    private readonly lines: AsyncIterator<string>,
    /** Of the runs that came before the first turn. */
    readonly values: readonly number[],
    readonly versions: Readonly<Record<string, string>>,
  ) {}

  static async start(python: string, specFile: string, environment: NodeJS.ProcessEnv = {}): Promise<Peer> {
    const child = spawn(python, [path.join('tools', 'bench', 'peer.py'), specFile], {
      stdio: ['pipe', 'pipe', 'inherit'],
      env: { ...process.env, ...environment },
    });
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
