// The other side of an inference on WebAssembly: onnxruntime-web (SIMD, as many threads) with the network that peer.py exported.
//
//     node tools/bench/ort-web.mjs SPEC.json
//
// SPEC is peer.py's, with "onnx" (the network) and "runtime" (the package's folder); what it reads and says is peer.py's too.
import { readFileSync, writeFileSync } from 'node:fs';
import path from 'node:path';
import { createInterface } from 'node:readline';
import { pathToFileURL } from 'node:url';

const WARM_UP = 3;

/** A tensor of a safetensors file as float32. */
function tensorOf(file, name) {
  const bytes = readFileSync(file);
  const length = Number(bytes.readBigUInt64LE(0));
  const { shape, data_offsets: at } = JSON.parse(bytes.toString('utf8', 8, 8 + length))[name];
  const [from, to] = at.map((n) => 8 + length + n);
  return { shape, values: new Float32Array(bytes.buffer.slice(bytes.byteOffset + from, bytes.byteOffset + to)) };
}

/** [B, C, D, H, W] as the other side has it, channels last, in a safetensors file of one tensor. */
function writeOutput(file, { dims, data }) {
  const [batch, channels, ...grid] = dims;
  const voxels = grid.reduce((product, n) => product * n, 1);
  const out = new Float32Array(data.length);
  for (let b = 0; b < batch; b++)
    for (let c = 0; c < channels; c++)
      for (let v = 0; v < voxels; v++) out[(b * voxels + v) * channels + c] = data[(b * channels + c) * voxels + v];
  const tensor = { dtype: 'F32', shape: [batch, ...grid, channels], data_offsets: [0, out.byteLength] };
  const header = Buffer.from(JSON.stringify({ output: tensor }));
  const aligned = Buffer.concat([header, Buffer.alloc((8 - (header.length % 8)) % 8, ' ')]);
  const length = Buffer.alloc(8);
  length.writeBigUInt64LE(BigInt(aligned.length));
  writeFileSync(file, Buffer.concat([length, aligned, Buffer.from(out.buffer)]));
}

const rms = (values) => Math.sqrt(values.reduce((sum, v) => sum + v * v, 0) / values.length);

/** What the process held at most, in bytes, since it last asked to forget. */
const peak = () => 1024 * Number(/VmHWM:\s+(\d+)/.exec(readFileSync('/proc/self/status', 'utf8'))?.[1] ?? 0);

const spec = JSON.parse(readFileSync(process.argv[2], 'utf8'));
const { version } = JSON.parse(readFileSync(path.join(spec.runtime, 'package.json'), 'utf8'));
const ort = await import(pathToFileURL(path.join(spec.runtime, 'dist', 'ort.node.min.mjs')).href);
ort.env.wasm.numThreads = spec.threads;
const before = process.memoryUsage.rss();
const session = await ort.InferenceSession.create(spec.onnx, { executionProviders: ['wasm'] });
const { shape, values } = tensorOf(spec.work.batch, 'x');
const x = new ort.Tensor('float32', values, shape);

async function once() {
  const start = performance.now();
  const { y } = await session.run({ x });
  return { ms: performance.now() - start, y };
}
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);

const first = [];
for (let i = 0; i < WARM_UP; i++) {
  const { y } = await once();
  first.push(rms(y.data));
  if (spec.output) writeOutput(spec.output, y);
}
say({ ready: { 'onnxruntime-web': version }, values: first });
for await (const line of createInterface({ input: process.stdin })) {
  if (line !== 'step') break;
  const { ms, y } = await once();
  say({ ms, value: rms(y.data) });
}
say({ peakBytes: peak() - before });
process.exit(0);
