/** One tile of a prepared volume as a network's input, and what the network says of it. */
import type { Breather } from '../breathe.js';
import type { CompiledProgram } from '../graph/compile.js';
import type { Executor } from '../model/executor.js';
import type { Triple } from '../volume.js';

/** Fills `logits` [d, h, w, class] from `input` [d, h, w, C]; the event loop has its turns. Nothing else may run meanwhile. */
export async function runTile(
  executor: Executor,
  inference: CompiledProgram,
  input: Float32Array,
  logits: Float32Array,
  breath: Breather,
  signal?: AbortSignal,
): Promise<void> {
  await executor.setSlowly(inference, 'x', input, breath);
  await executor.run(inference, signal ? { signal } : {});
  await executor.getSlowly(inference, 'logits', logits, breath);
}

/**
 * Copies one tile of [C, D, H, W] into [d, h, w, C], mirrored along some axes, zeros outside the volume. An image of one
 * channel serves all channels of the network.
 */
export async function fillTile(
  out: Float32Array,
  image: Float32Array,
  imageChannels: number,
  channels: number,
  shape: Triple,
  tile: Triple,
  start: Triple,
  mirrored: readonly number[],
  breath: Breather,
): Promise<void> {
  const [td, th, tw] = tile;
  const [vd, vh, vw] = shape;
  const flip = [0, 1, 2].map((a) => mirrored.includes(a)) as [boolean, boolean, boolean];
  const plane = th * tw * channels;
  for (let d = 0; d < td; d++) {
    out.fill(0, d * plane, (d + 1) * plane);
    const z = start[0] + (flip[0] ? td - 1 - d : d);
    if (z < 0 || z >= vd) continue;
    for (let h = 0; h < th; h++) {
      const y = start[1] + (flip[1] ? th - 1 - h : h);
      if (y < 0 || y >= vh) continue;
      for (let c = 0; c < channels; c++) {
        const from = (((imageChannels === 1 ? 0 : c) * vd + z) * vh + y) * vw;
        const to = (d * th + h) * tw * channels + c;
        if (channels === 1 && !flip[2]) {
          const [first, last] = [Math.max(0, start[2]), Math.min(vw, start[2] + tw)];
          if (first < last) out.set(image.subarray(from + first, from + last), to + first - start[2]);
          continue;
        }
        for (let w = 0; w < tw; w++) {
          const x = start[2] + (flip[2] ? tw - 1 - w : w);
          if (x >= 0 && x < vw) out[to + w * channels] = image[from + x] as number;
        }
      }
    }
    if (breath.due()) await breath.breathe();
  }
}
