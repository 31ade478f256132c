#!/usr/bin/env node
/** The program: process, streams and signals around `app.ts`. */
import { enableRelaxedSimd } from '../backend/wasm-platform-node.js';
import { runApp } from './app.js';
import { exit } from './exit.js';
import { endBySignal, watchSignals } from './signals.js';
import { outputTo } from './streams.js';

async function main(): Promise<void> {
  // Node 20 hides relaxed SIMD behind a flag of the whole process: the program may set it, the library may not.
  enableRelaxedSimd();
  const [out, err] = [outputTo(process.stdout), outputTo(process.stderr)];
  const watch = watchSignals((text) => err.write(text), endBySignal);
  let code = await runApp(process.argv.slice(2), {
    signal: watch.signal,
    print: (text) => out.write(text),
    say: (text) => err.write(text),
    interactive: process.stderr.isTTY === true,
  });
  await out.flushed();
  const lost = out.fault();
  if (lost) {
    err.write(`macl: error: stdout: the results could not be written: ${lost.message}`);
    if (code === 0) code = 1;
  }
  await err.flushed();
  const came = watch.came();
  watch.stop();
  // A signal that came too late to stop anything is no failure.
  if (code === 0 || !came) exit(code);
  endBySignal(came.code, came.name);
}

void main();
