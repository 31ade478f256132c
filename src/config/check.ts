/**
 * What has to fit together in a configuration: strides with levels, patch with strides, lists with the number they are
 * for. Each error names both sides and, for sizes, the nearest that fit. No data is looked at.
 */
import { backboneOf } from '../backbones/index.js';
import { MaclError } from '../errors.js';
import { mapTriple } from '../settings/fingerprint.js';
import { methodOf, type Method } from '../methods/index.js';
import { lambdaOf } from '../settings/lambda.js';
import type { ConfigInput, ModelConfig, ResolvedConfig, Triple } from '../settings/types.js';

const AXES = ['D', 'H', 'W'] as const;

/** What each axis of a patch must be a multiple of: Π of all strides, and over λ where a branch sees the patch at that scale. */
export function patchUnit(
  model: Pick<ModelConfig, 'strides' | 'levels' | 'decoderBlocks'>,
  { shrinks }: Pick<Method, 'shrinks'>,
): Triple {
  const lambda = lambdaOf(model);
  return mapTriple((axis) => {
    const all = model.strides.reduce((p, s) => p * s[axis], 1);
    return shrinks ? all / lambda[axis] : all;
  });
}

/** The nearest sizes that fit, below (where there is one) and above. */
export function nearestSizes(size: number, unit: number): number[] {
  const below = Math.floor(size / unit) * unit;
  return below > 0 ? [below, below + unit] : [unit];
}

/** @throws MaclError `config` that gives, for every axis that does not fit, the nearest sizes that do */
export function checkPatch(
  patch: Triple,
  model: ModelConfig,
  method: Pick<Method, 'shrinks'>,
  source = 'configuration',
): void {
  if (model.dims === 2 && patch[0] !== 1) {
    throw contradiction(source, 'data.patch', 'D = 1, because model.dims is 2', patch, 'a 2-D patch is [1, H, W]');
  }
  const unit = patchUnit(model, method);
  const wrong = AXES.map((name, axis) => ({ name, size: patch[axis as 0], unit: unit[axis as 0] })).filter(
    (a) => a.size % a.unit !== 0,
  );
  if (wrong.length === 0) return;
  const what = method.shrinks ? 'the product of all strides over λ' : 'the product of all strides';
  const words = wrong.map(
    (a) => `${a.name} = ${a.size} is not a multiple of ${a.unit}, nearest ${nearestSizes(a.size, a.unit).join(' or ')}`,
  );
  throw contradiction(source, 'data.patch', `multiples of ${unit.join('×')} (${what})`, patch, words.join('; '));
}

/** Voxels of the smallest bottleneck of a step: that of the branch at λ where there is one. */
export function bottleneckVoxels(patch: Triple, model: ModelConfig, method: Pick<Method, 'shrinks'>): number {
  const unit = patchUnit(model, method);
  return mapTriple((axis) => patch[axis] / unit[axis]).reduce((p, n) => p * n, 1);
}

/**
 * What is normalised at the bottleneck has enough voxels there. The patch fits its strides already.
 * @param samples of a batch
 * @throws MaclError `config` that gives the nearest patches that do
 */
export function checkBottleneck(
  patch: Triple,
  model: ModelConfig,
  method: Pick<Method, 'shrinks'>,
  samples: number,
  source = 'configuration',
): void {
  const { per, least } = backboneOf(model).bottleneck;
  const needed = Math.ceil(least / (per === 'batch' ? samples : 1));
  const voxels = bottleneckVoxels(patch, model, method);
  if (voxels >= needed) return;
  const unit = patchUnit(model, method);
  const larger = AXES.flatMap((_, axis) => {
    if (model.dims === 2 && axis === 0) return [];
    const others = voxels / (patch[axis as 0] / unit[axis as 0]);
    return [patch.map((s, a) => (a === axis ? Math.ceil(needed / others) * unit[axis] : s)).join('×')];
  });
  const [what, where] = [per === 'batch' ? 'in all samples' : 'a sample', method.shrinks ? ' of the branch at λ' : ''];
  const expected = `at least ${needed} voxels ${what} at the bottleneck${where}, which ${model.backbone} normalises`;
  throw contradiction(source, 'data.patch', expected, patch, `${voxels} there, nearest ${larger.join(' or ')}`);
}

function contradiction(source: string, field: string, expected: string, found: unknown, more?: string): MaclError {
  const shown = Array.isArray(found) ? `[${found.join(', ')}]` : String(found);
  const text = `${source}: ${field}: expected ${expected}, found ${shown}${more === undefined ? '' : `: ${more}`}`;
  return new MaclError('config', text, { field, expected, found });
}

/** `input` is what was given: a default never contradicts. */
export function checkConfig(config: ResolvedConfig, input: ConfigInput, source: string): void {
  checkModel(config.model, source);
  const { model, data, optimizer, augment } = config;
  const method = methodOf(config);
  method.check?.(config, input, (field, expected, found, why) => {
    throw contradiction(source, field, expected, found, why);
  });
  if (optimizer.schedule === 'sawtooth' && config.task === 'pretrain') {
    const expected = 'one that trains everything, because pre-training loads nothing';
    throw contradiction(source, 'optimizer.schedule', expected, optimizer.schedule);
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
  if (data.patch) {
    checkPatch(data.patch, model, method, source);
    checkBottleneck(data.patch, model, method, config.train.batch, source);
  }
  if (augment.scale[0] > augment.scale[1]) {
    throw contradiction(source, 'augment.scale', 'the smallest factor first', augment.scale);
  }
}

function checkAugment({ model, augment }: ResolvedConfig, source: string): void {
  if (model.dims === 2 && (augment.rotation[1] !== 0 || augment.rotation[2] !== 0)) {
    throw contradiction(source, 'augment.rotation', 'none about H and W, because model.dims is 2', augment.rotation);
  }
  if (model.dims === 2 && augment.mirror[0]) {
    throw contradiction(source, 'augment.mirror', 'none along D, because model.dims is 2', augment.mirror);
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
