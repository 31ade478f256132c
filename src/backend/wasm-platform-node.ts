/** The wasm backend's surroundings in Node: modules from disk, workers from node:worker_threads, limits of the process. */
import { readFile } from 'node:fs/promises';
import v8 from 'node:v8';
import { Worker } from 'node:worker_threads';
import { MaclError } from '../errors.js';
import { messageOf } from '../realm.js';
import { wasmPath } from '../paths.js';
import { availableThreads, freeBytes } from './limits-node.js';
import { supportsRelaxedSimd } from './relaxed-simd.js';
import {
  WORKER_BODY,
  type WasmPlatform,
  type WasmWorker,
  type WorkerEvents,
  type WorkerStart,
} from './wasm-platform.js';

const NODE_WORKER = `
const { workerData, parentPort } = require('node:worker_threads');
${WORKER_BODY}
join(workerData, () => parentPort.postMessage('ready'));
`;

/**
 * Node 20 has relaxed SIMD behind a V8 flag of the whole process. For programs that own their process (the command line)
 * only: a library must not set it. Returns whether relaxed SIMD is there afterwards.
 */
export function enableRelaxedSimd(): boolean {
  if (supportsRelaxedSimd()) return true;
  if (Number(process.versions.node.split('.')[0]) >= 22) return false; // newer ones only complain about the flag
  v8.setFlagsFromString(RELAXED_SIMD_FLAG);
  relaxedByFlag = supportsRelaxedSimd();
  return relaxedByFlag;
}

const RELAXED_SIMD_FLAG = '--experimental-wasm-relaxed-simd';
/** V8's flags are the process's, and so is this. */
let relaxedByFlag = false;

function startWorker(start: WorkerStart, events: WorkerEvents): WasmWorker {
  // No flags or loaders of the parent: they would be run in every worker.
  const worker = new Worker(NODE_WORKER, { eval: true, workerData: start, execArgv: [], name: 'macl-wasm' });
  let over = false;
  const lost = (reason: string): void => {
    if (!over) events.lost(reason);
    over = true;
  };
  worker.on('message', () => events.ready());
  worker.on('error', (error) => lost(`${error?.name ?? 'Error'}: ${messageOf(error)}`));
  worker.on('exit', (code) => lost(`it ended with code ${code}`));
  return {
    keepAlive: (on) => (on ? worker.ref() : worker.unref()),
    async terminate() {
      over = true;
      await worker.terminate();
    },
  };
}

export const nodePlatform: WasmPlatform = {
  async moduleBytes(name) {
    const file = wasmPath(name);
    try {
      return new Uint8Array(await readFile(file));
    } catch (error) {
      throw new MaclError('device', `wasm: the module is not there: ${file}`, { file }, { cause: error });
    }
  },
  startWorker,
  availableThreads: () => availableThreads(),
  freeBytes: () => freeBytes(),
  relaxedSimdNote: () =>
    relaxedByFlag
      ? `relaxed SIMD is switched on for this command; a program that imports macl on ${process.version} has simd128 ` +
        `unless it is started with ${RELAXED_SIMD_FLAG}`
      : '',
};
