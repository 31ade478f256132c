#!/usr/bin/env node
/** The program: process, streams and signals around `app.ts`. */
import { setFlagsFromString } from 'node:v8';
import { supportsRelaxedSimd } from '../backend/relaxed-simd.js';
import { runApp } from './app.js';
import { watchSignals } from './signals.js';

/** A pipe that its reader has closed (`| head`) takes nothing more, and is no error. */
function writer(stream: NodeJS.WriteStream): (text: string) => void {
  let open = true;
  stream.on('error', (error: NodeJS.ErrnoException) => {
    open = false;
    if (error.code !== 'EPIPE') throw error;
  });
  return (text) => {
    if (open) stream.write(`${text}\n`);
  };
}

const flushed = (stream: NodeJS.WriteStream): Promise<void> =>
  new Promise((resolve) => (stream.writable && !stream.destroyed ? stream.write('', () => resolve()) : resolve()));

async function main(): Promise<void> {
  // Node 20 hides relaxed SIMD behind a flag of the whole process: the program may set it, the library may not.
  if (!supportsRelaxedSimd()) setFlagsFromString('--experimental-wasm-relaxed-simd');
  const print = writer(process.stdout);
  const say = writer(process.stderr);
  const watch = watchSignals(say);
  const code = await runApp(process.argv.slice(2), {
    signal: watch.signal,
    print,
    say,
    interactive: process.stderr.isTTY === true,
  });
  watch.stop();
  await Promise.all([flushed(process.stdout), flushed(process.stderr)]);
  // A signal that came too late to stop anything is no failure.
  process.exit(code === 0 ? 0 : (watch.code() ?? code));
}

void main();
