/** A random batch and random weights for a step of any configuration, the same for every run and machine. */
import { resolveConfig } from '../../src/config/index.js';
import { Draws, PURPOSE } from '../../src/philox.js';
import type { Sample } from '../../src/data/sampling/view.js';
import { methodOf } from '../../src/methods/index.js';
import { normal, uniform } from './random.js';
import type { StepConfig, StepData } from './steprun.js';

/** The method's views are noise, its labels random classes, its numbers its own of random samples. */
export function randomData(
  config: StepConfig,
  samples: number,
  patch: readonly [number, number, number],
  seed = 77,
): StepData {
  const next = uniform(seed);
  const resolved = resolveConfig({ ...config, data: { patch } });
  const method = methodOf(resolved);
  const filled = (shape: readonly number[], value: () => number) => {
    return { shape, values: Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, value) };
  };
  const classes = config.model.classes ?? 2;
  const label = () => (next() < 0.1 ? 255 : Math.floor(next() * classes));
  const batch = new Map<string, { shape: readonly number[]; values: Float64Array }>();
  for (const { name, kind } of method.views(resolved)) {
    if (kind === 'labels') batch.set(name, filled([samples, ...patch], label));
    else
      batch.set(
        name,
        filled([samples, config.model.inChannels, ...patch], () => normal(next)),
      );
  }
  for (const { name, sizes, values } of method.inputs(resolved)) {
    const rows = Array.from({ length: samples }, (_, n) => {
      const position = Array.from({ length: resolved.data.position === 'slice' ? 1 : 3 }, () => next());
      const sample: Sample = { patches: [], position, warps: new Map() };
      return [...Array.from(values(sample, new Draws(seed, 0, n, PURPOSE.method)))];
    });
    batch.set(name, { shape: [samples, ...sizes], values: Float64Array.from(rows.flat()) });
  }
  return { config, weights: (name, count) => randomWeights(next, name, count), batch };
}

function randomWeights(next: () => number, name: string, count: number): Float64Array {
  const value = () => {
    if (name.includes('norm')) return /running_var|weight/.test(name) ? 0.5 + next() : 0.2 * normal(next);
    return (name.endsWith('bias') ? 0.1 : 0.5) * normal(next);
  };
  return Float64Array.from({ length: count }, value);
}
