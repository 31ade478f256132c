/** A random batch and random weights for a step of any configuration, the same for every run and machine. */
import { normal, uniform } from './random.js';
import type { StepConfig, StepData } from './steprun.js';

export function randomData(config: StepConfig, samples: number, patch: readonly [number, number, number]): StepData {
  const next = uniform(77);
  const image = () => {
    const shape = [samples, config.model.inChannels, ...patch];
    return { shape, values: Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, () => normal(next)) };
  };
  const batch = new Map<string, { shape: readonly number[]; values: Float64Array }>();
  if (config.task === 'pretrain') {
    for (const name of ['i1', 'i2', 'v1', 'v2']) batch.set(name, image());
    const axes = config.model.dims === 3 ? 3 : 1;
    const values = Float64Array.from({ length: samples * axes }, () => next());
    batch.set('pos', { shape: [samples, axes], values });
  } else {
    const x = image();
    const shape = [samples, ...patch];
    const classes = config.model.classes ?? 2;
    const label = () => (next() < 0.1 ? 255 : Math.floor(next() * classes));
    const values = Float64Array.from({ length: shape.reduce((a, b) => a * b, 1) }, label);
    batch.set('x', x).set('y', { shape, values });
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
