/**
 * Writes a step's input from its samples: the descriptors of each view that the method wants, and its numbers. What is
 * drawn is the sampler's, what it means the method's.
 */
import type { Sampler } from '../data/sampling/sampler.js';
import type { CompiledProgram } from '../graph/compile.js';
import type { Network } from '../methods/network.js';
import type { Executor } from '../model/executor.js';
import { Draws, PURPOSE } from '../philox.js';
import type { Triple } from '../volume.js';
import { DescriptorWriter } from './descriptors.js';
import type { VolumeStore } from './volume-store.js';

export type Feed = (step: number) => Promise<void>;

export function feedOf(
  { method, config }: Network,
  programAt: (step: number) => CompiledProgram,
  sampler: Sampler,
  executor: Executor,
  store: VolumeStore,
): Feed {
  const patch = config.data.patch as Triple;
  const writer = new DescriptorWriter(executor, programAt(0), store, config.model.inChannels);
  const views = method.views(config);
  const inputs = method.inputs(config);
  return async (step) => {
    const program = programAt(step);
    const samples = sampler.draw(step);
    for (const [n, sample] of samples.entries()) {
      for (const [p, { caseIndex }] of sample.patches.entries()) {
        const named = (kind: 'image' | 'labels') =>
          views.flatMap((view) => {
            const drawn = view.kind === kind ? sample.warps.get(view.name) : undefined;
            return drawn?.patch === p ? [[view.name, drawn.warp] as const] : [];
          });
        const slot = n * method.patches + p;
        await writer.sample(n, slot, caseIndex, named('image'), patch, named('labels')[0]);
      }
    }
    for (const { name, values } of inputs) {
      const rows = samples.flatMap((sample, n) => [
        ...Array.from(values(sample, new Draws(config.train.seed, step, n, PURPOSE.method))),
      ]);
      executor.set(program, name, rows);
    }
    writer.flush(program);
  };
}
