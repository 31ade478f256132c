// @ts-check
// Segments a volume that lies in memory, and a file: node examples/node/segment.mjs RUN [IN.nii.gz OUT.nii.gz]
// RUN is a fine-tuned run's folder (macl-quickstart/pretrained) or a model.safetensors.
import { Segmenter } from 'macl';

const [model = 'macl-quickstart/pretrained', input, output] = process.argv.slice(2);

// Any typed array will do; W is the fastest axis. Sizes and spacings are D, H, W.
const [depth, height, width] = /** @type {const} */ ([40, 48, 48]);
const voxels = new Float32Array(depth * height * width);
for (let i = 0; i < voxels.length; i++) {
  const w = (i % width) - width / 2;
  const h = (Math.floor(i / width) % height) - height / 2;
  const d = Math.floor(i / width / height) - depth / 2;
  voxels[i] = Math.hypot(2 * d, 1.25 * h, 1.25 * w) < 20 ? 550 : 400;
}
const grid = {
  shape: /** @type {const} */ ([depth, height, width]),
  spacingMm: /** @type {const} */ ([2, 1.25, 1.25]),
  // As in NIfTI: from voxel (w, h, d) to millimetres, row by row.
  affine: Float64Array.of(1.25, 0, 0, 0, 0, 1.25, 0, 0, 0, 0, 2, 0, 0, 0, 0, 1),
};

// Opened once; calls run side by side and take turns. One more than maxQueue is rejected as `busy`.
const segmenter = await Segmenter.open(model, { maxQueue: 8 });
try {
  // stop.abort() would end it within one tile.
  const stop = new AbortController();
  const labels = await segmenter.segment({ grid, channels: 1, voxels }, { signal: stop.signal });
  for (const { value, name } of segmenter.classes) {
    let count = 0;
    for (const label of labels) if (label === value) count++;
    console.log(`${value} ${name}: ${count} voxels`);
  }
  if (input && output) await segmenter.segmentFile(input, output);
} finally {
  await segmenter.close();
}
