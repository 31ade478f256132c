/**
 * What has to fit together in a configuration: strides with levels, patch with strides, lists with the number they are
 * for. Each error names both sides and, for sizes, the nearest that fit. No data is looked at.
 */
import { MaclError } from '../errors.js';
import { mapTriple } from '../settings/fingerprint.js';
import { checkClasses, checkContrasted } from '../settings/limits.js';
import type { ConfigInput, ModelConfig, ResolvedConfig, Task, Triple } from '../settings/types.js';

const AXES = ['D', 'H', 'W'] as const;

/** λ of each axis: 1 / the product of the deepest n strides. */
export function lambdaOf(model: Pick<ModelConfig, 'strides' | 'levels' | 'decoderBlocks'>): Triple {
  const deepest = model.strides.slice(model.levels - model.decoderBlocks);
  return mapTriple((axis) => 1 / deepest.reduce((p, s) => p * s[axis], 1));
}

/** What each axis of a patch must be a multiple of: Π of all strides, and in pre-training that over λ. */
export function patchUnit(model: Pick<ModelConfig, 'strides' | 'levels' | 'decoderBlocks'>, task: Task): Triple {
  const lambda = lambdaOf(model);
  return mapTriple((axis) => {
    const all = model.strides.reduce((p, s) => p * s[axis], 1);
    return task === 'pretrain' ? all / lambda[axis] : all;
  });
}

/** The nearest sizes that fit, below (where there is one) and above. */
export function nearestSizes(size: number, unit: number): number[] {
  const below = Math.floor(size / unit) * unit;
  return below > 0 ? [below, below + unit] : [unit];
}

/** @throws MaclError `config` that gives, for every axis that does not fit, the nearest sizes that do */
export function checkPatch(patch: Triple, model: ModelConfig, task: Task, source = 'configuration'): void {
  if (model.dims === 2 && patch[0] !== 1) {
    throw contradiction(source, 'data.patch', 'D = 1, because model.dims is 2', patch, 'a 2-D patch is [1, H, W]');
  }
  const unit = patchUnit(model, task);
  const wrong = AXES.map((name, axis) => ({ name, size: patch[axis as 0], unit: unit[axis as 0] })).filter(
    (a) => a.size % a.unit !== 0,
  );
  if (wrong.length === 0) return;
  const what = task === 'pretrain' ? 'the product of all strides over λ' : 'the product of all strides';
  const words = wrong.map(
    (a) => `${a.name} = ${a.size} is not a multiple of ${a.unit}, nearest ${nearestSizes(a.size, a.unit).join(' or ')}`,
  );
  throw contradiction(source, 'data.patch', `multiples of ${unit.join('×')} (${what})`, patch, words.join('; '));
}

function contradiction(source: string, field: string, expected: string, found: unknown, more?: string): MaclError {
  const shown = Array.isArray(found) ? `[${found.join(', ')}]` : String(found);
  const text = `${source}: ${field}: expected ${expected}, found ${shown}${more === undefined ? '' : `: ${more}`}`;
  return new MaclError('config', text, { field, expected, found });
}

/** `input` is what was given: a default never contradicts. */
export function checkConfig(config: ResolvedConfig, input: ConfigInput, source: string): void {
  checkModel(config.model, source);
  const { model, data, train, optimizer, augment } = config;
  if (config.task === 'pretrain') {
    const { threshold } = config.loss;
    const axes = data.position === 'slice' ? 1 : 3;
    if (typeof threshold !== 'number' && input.data?.position !== undefined && threshold.length !== axes) {
      const words = `${axes} entries, because data.position is ${data.position}`;
      throw contradiction(source, 'loss.threshold', words, threshold);
    }
    if (train.batch < 2) {
      const why = 'with a single sample every pair is a positive and nothing is told apart';
      throw contradiction(source, 'train.batch', 'at least 2 in pre-training', train.batch, why);
    }
    checkContrasted(train.batch, source);
  } else {
    if (config.model.classes < 2) {
      throw contradiction(source, 'model.classes', 'the number of classes, the background counted', 'nothing');
    }
    checkClasses(config.model.classes, source);
    const { classWeights } = config.loss;
    if (classWeights && classWeights.length !== config.model.classes) {
      throw contradiction(source, 'loss.classWeights', `${config.model.classes} entries (model.classes)`, classWeights);
    }
    if (classWeights && !classWeights.some((w) => w > 0)) {
      throw contradiction(source, 'loss.classWeights', 'at least one weight above 0', classWeights);
    }
  }
  if (optimizer.schedule !== 'constant' && optimizer.lrFinal > optimizer.lr) {
    throw contradiction(source, 'optimizer.lrFinal', `at most optimizer.lr = ${optimizer.lr}`, optimizer.lrFinal);
  }
  if (data.normalize !== 'auto' && data.normalize.length !== model.inChannels) {
    throw contradiction(source, 'data.normalize', `${model.inChannels} entries (model.inChannels)`, data.normalize);
  }
  if (data.sliceAxis !== 'D' && model.dims === 3) {
    throw contradiction(source, 'data.sliceAxis', 'D, because model.dims is 3 and nothing is sliced', data.sliceAxis);
  }
  checkAugment(config, source);
  if (data.patch) checkPatch(data.patch, model, config.task, source);
  if (augment.scale[0] > augment.scale[1]) {
    throw contradiction(source, 'augment.scale', 'the smallest factor first', augment.scale);
  }
}

function checkAugment({ task, model, augment }: ResolvedConfig, source: string): void {
  if (model.dims === 2 && (augment.rotation[1] !== 0 || augment.rotation[2] !== 0)) {
    throw contradiction(source, 'augment.rotation', 'none about H and W, because model.dims is 2', augment.rotation);
  }
  if (model.dims === 2 && augment.mirror[0]) {
    throw contradiction(source, 'augment.mirror', 'none along D, because model.dims is 2', augment.mirror);
  }
  const { brightness, contrast } = augment.intensity;
  if (task === 'pretrain' && augment.nonSpatial !== 'identity' && brightness === 0 && contrast === 0) {
    const expected = `brightness or contrast above 0, because augment.nonSpatial is ${augment.nonSpatial}`;
    throw contradiction(source, 'augment.intensity', expected, JSON.stringify(augment.intensity));
  }
}

/** @throws MaclError `config` */
export function checkModel(model: ModelConfig, source = 'configuration'): void {
  const { dims, levels, strides, kernels, decoderBlocks } = model;
  if (strides.length !== levels) {
    throw contradiction(source, 'model.strides', `${levels} entries (model.levels)`, `${strides.length}`);
  }
  if (kernels.length !== levels + 1) {
    throw contradiction(
      source,
      'model.kernels',
      `${levels + 1} entries (model.levels and the centre)`,
      `${kernels.length}`,
    );
  }
  if (decoderBlocks > levels) {
    throw contradiction(source, 'model.decoderBlocks', `at most model.levels = ${levels}`, decoderBlocks);
  }
  if (dims === 2 && strides.some((s) => s[0] !== 1)) {
    throw contradiction(source, 'model.strides', 'stride 1 along D, because model.dims is 2', JSON.stringify(strides));
  }
  if (dims === 2 && kernels.some((k) => k[0] !== 1)) {
    throw contradiction(source, 'model.kernels', 'kernel 1 along D, because model.dims is 2', JSON.stringify(kernels));
  }
}
