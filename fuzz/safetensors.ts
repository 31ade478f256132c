/** Weight files: safetensors whose header or bytes are damaged, and models whose metadata is. */
import { writeFileSync } from 'node:fs';
import { join } from 'node:path';
import { resolveConfig } from '../src/config/index.js';
import { asFloat32, rawTensor, readSafetensors, writeSafetensors } from '../src/data/safetensors.js';
import { modelMetadata } from '../src/model/description.js';
import { loadModel } from '../src/model/model-file.js';
import { mutateBytes, mutateJson, Random } from './random.js';
import type { Target } from './target.js';

const METADATA = modelMetadata({
  config: resolveConfig({
    task: 'finetune',
    model: { dims: 3, classes: 3, levels: 2, filters: 4 },
    data: { patch: [16, 16, 16], normalize: ['case'] },
  }),
  normalization: [{ kind: 'case' }],
  classes: [
    { name: 'background', value: 0 },
    { name: 'a', value: 1 },
    { name: 'b', value: 2 },
  ],
  channelNames: ['MR'],
} as unknown as Parameters<typeof modelMetadata>[0]);

function file(random: Random): Uint8Array {
  const tensors = new Map(
    Array.from({ length: random.below(4) }, (_, i) => {
      const shape = Array.from({ length: random.below(4) }, () => random.below(4));
      const values = new Float32Array(shape.reduce((a, b) => a * b, 1)).map(() => random.word() / 2 ** 32);
      return [`t.${i}`, rawTensor(values, shape)] as const;
    }),
  );
  const metadata = { ...METADATA };
  for (const key of Object.keys(metadata)) {
    if (random.chance(0.3)) metadata[key] = JSON.stringify(mutateJson(json(metadata[key]), random));
    if (random.chance(0.05)) delete metadata[key];
  }
  return writeSafetensors(tensors, metadata);
}

function json(text: string | undefined): unknown {
  try {
    return JSON.parse(text ?? 'null') as unknown;
  } catch {
    return text;
  }
}

/** The JSON header changed as a tree, its length put right. */
function withHeader(bytes: Uint8Array, random: Random): Uint8Array {
  const length = Number(new DataView(bytes.buffer, bytes.byteOffset).getBigUint64(0, true));
  const header = JSON.parse(new TextDecoder().decode(bytes.subarray(8, 8 + length))) as unknown;
  const text = new TextEncoder().encode(JSON.stringify(mutateJson(header, random, 0.2)) ?? '');
  const out = new Uint8Array(8 + text.length + bytes.length - 8 - length);
  new DataView(out.buffer).setBigUint64(0, BigInt(text.length), true);
  out.set(text, 8);
  out.set(bytes.subarray(8 + length), 8 + text.length);
  return out;
}

let folder = '';
export const safetensors: Target = {
  name: 'safetensors',
  describe: 'readSafetensors and loadModel of files with damaged headers, metadata and bytes',
  setUp(f) {
    folder = f;
  },
  async run(number) {
    const random = new Random(number);
    let bytes = file(random);
    if (random.chance(0.4)) bytes = withHeader(bytes, random);
    if (random.chance(0.4)) bytes = mutateBytes(bytes, random);
    const name = join(folder, 'model.safetensors');
    writeFileSync(name, bytes);
    const { tensors } = readSafetensors(bytes, name);
    for (const [key, tensor] of tensors) {
      const count = tensor.shape.reduce((a, b) => a * b, 1);
      if (tensor.dtype === 'F32' && asFloat32(tensor, key).length !== count) throw new Error(`${key}: not ${count}`);
    }
    await loadModel(name);
  },
};
