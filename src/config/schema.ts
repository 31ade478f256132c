/**
 * The published JSON schema of a configuration (`macl config --schema`), and the check of a value against it. It knows
 * keys, types and ranges; what fits together is `check.ts`'s, what is filled in is `resolve.ts`'s.
 */
import { MaclError } from '../errors.js';
import { showValue } from '../options.js';
import { didYouMean } from '../suggest.js';
import { BACKBONE_NAMES } from '../backbones/index.js';
import { METHOD_NAMES, methodNamed, type Method } from '../methods/index.js';
import { ARITHMETICS } from '../arithmetic.js';
import { PRECISION_CHOICES } from '../precision.js';
import { PARAMETER_PARTS, type ConfigInput, type Task } from '../settings/types.js';
import {
  either,
  integer,
  list,
  number,
  object,
  oneOf,
  orNull,
  positive,
  type JsonSchema,
} from '../settings/json-schema.js';
import { CLASSES } from '../settings/limits.js';
import { violations, type Violation } from './validate.js';

const axisList = (items: JsonSchema, description: string) => list(items, 3, 3, `${description}: a list of D, H, W`);
const MOST_LEVELS = 8;
/** They stand one after the other in a step's program, which takes a tenth of a second of compiling each. */
const MOST_ACCUMULATED = 64;

const model = object('The network.', {
  backbone: oneOf('the network that is trained', ...BACKBONE_NAMES),
  dims: oneOf('2 or 3; 2-D is the case where D has stride and kernel 1', 2, 3),
  inChannels: integer(1, 1024, 'channels of the input'),
  filters: integer(1, 4096, 'filters of the first level; level l has filters · 2^l'),
  levels: integer(1, MOST_LEVELS, 'encoder levels L'),
  decoderBlocks: integer(1, MOST_LEVELS, 'decoder blocks n of the dominant branch; λ = 1 / Π of the deepest n strides'),
  strides: list(axisList(oneOf('1 or 2', 1, 2), 'stride of a level'), 1, MOST_LEVELS, 'a stride for each level'),
  kernels: list(
    axisList(oneOf('1 or 3', 1, 3), 'kernel of a level'),
    2,
    MOST_LEVELS + 1,
    "a kernel for each level, and the centre's",
  ),
  recompute: oneOf(
    'blocks: compute what levels and decoder blocks gave again in the backward pass: less memory, more time, the same bits',
    'none',
    'blocks',
  ),
  classes: integer(2, CLASSES.most, `${CLASSES.why}, the background counted; fine-tuning only`),
});

const optimizer = object('The optimiser and its learning rate by step.', {
  name: oneOf('the optimiser', 'sgd', 'adam', 'adamw'),
  lr: number(0, 1e6, 'learning rate at the first step, or after the warm-up'),
  momentum: { type: 'number', minimum: 0, exclusiveMaximum: 1, description: "SGD's momentum" },
  weightDecay: number(0, 1e6, 'weight decay'),
  clip: number(0, 1e12, "limit of the gradient's global norm; 0: none"),
  schedule: oneOf(
    'cosine: to lrFinal; cosine-floor: to 0, never below lrFinal; constant; poly: to lrFinal by a power; sawtooth: poly over what was not loaded, then over everything',
    'cosine',
    'cosine-floor',
    'constant',
    'poly',
    'sawtooth',
  ),
  lrFinal: number(0, 1e6, 'where the schedule ends, or its floor'),
  warmup: number(0, 1, 'share of the steps over which the rate first rises to lr; 0: none'),
  power: number(0.01, 10, 'of poly and sawtooth: how the rate falls, 1: evenly'),
  sawtooth: {
    type: 'number',
    exclusiveMinimum: 0,
    exclusiveMaximum: 1,
    description: 'share of the steps that the first part of a sawtooth takes',
  },
  groups: list(
    object(
      'Parameters that train in a way of their own.',
      {
        parts: list(
          oneOf('where a tensor lies, whether --init loaded it, what it is', ...PARAMETER_PARTS),
          1,
          PARAMETER_PARTS.length,
          'tensors of any of these parts',
        ),
        lr: positive("times the step's learning rate"),
        weightDecay: { type: 'boolean', description: 'whether optimizer.weightDecay applies' },
        frozen: { type: 'boolean', description: 'neither trained nor decayed, norms on their running statistics' },
      },
      ['parts'],
    ),
    0,
    16,
    'groups of parameters, of which the first that names a tensor has it',
  ),
});

const init = object('Initial weights.', {
  linear: oneOf('initialisation of linear layers', 'kaiming', 'pytorch'),
  channels: oneOf(
    'one channel for a network pre-trained on many: sum the first convolution, or repeat the channel',
    'sum',
    'repeat',
  ),
});

const normalizeKind = oneOf(
  'how a channel is normalised: ct (clipped and scaled over the data set), robust (clipped to percentiles and scaled, per case), case (scaled per case), unit (smallest and largest value of a case to 0 and 1), none (left as it is)',
  'ct',
  'robust',
  'case',
  'unit',
  'none',
);
const data = object('How volumes become samples.', {
  spacingMm: orNull(axisList(positive('millimetres'), 'spacing that volumes are resampled to')),
  patch: orNull(axisList(integer(1, 4096, 'voxels'), 'size of a patch in voxels; D is 1 in 2-D')),
  normalize: either(
    'auto, ct, robust, case, unit, none, or a list with one of them (but auto) for each channel',
    { enum: ['auto', 'ct', 'robust', 'case', 'unit', 'none'] },
    list(normalizeKind, 1, 1024, 'a kind for each channel'),
  ),
  nonFinite: oneOf(
    'voxels that are not finite: refuse the file, or take them as zero and count them',
    'refuse',
    'zero',
  ),
  foreground: number(0, 1, 'share of fine-tuning patches that are centred on foreground'),
  sliceAxis: oneOf('axis that 2-D slices are taken along', 'D', 'H', 'W'),
  position: oneOf(
    "centre: the patch's centre over the volume's size, each axis; slice: (i + 1) / n along D",
    'centre',
    'slice',
  ),
});

const train = object('The run.', {
  steps: integer(0, 1e9, 'training steps'),
  batch: integer(1, 65536, 'samples that are computed at once'),
  accumulate: integer(1, MOST_ACCUMULATED, 'batches whose gradients are averaged into one step'),
  seed: integer(0, Number.MAX_SAFE_INTEGER, 'seed of all random numbers'),
  precision: oneOf('what activations and their gradients are held in; weights stay fp32', ...PRECISION_CHOICES),
  arithmetic: oneOf('how convolutions are computed, where the device has a choice', ...ARITHMETICS),
  valEvery: integer(0, 1e9, 'steps between validations; 0: only at the end'),
  checkpointEvery: integer(1, 1e9, 'steps between checkpoints'),
  threads: orNull(integer(1, 4096, 'threads')),
});

const augment = object('The spatial and intensity changes of a view.', {
  rotation: either(
    'degrees, uniform in ± this: one number of 0 … 180, or a list of D, H, W',
    number(0, 180, 'degrees'),
    axisList(number(0, 180, 'degrees'), 'degrees about each axis'),
  ),
  scale: list(number(0.05, 20, 'a factor'), 2, 2, 'smallest and largest factor'),
  mirror: either(
    'true, false, or a list of D, H, W',
    { type: 'boolean' },
    axisList({ type: 'boolean' }, 'axes that are mirrored'),
  ),
  translation: number(0, 1, 'shift of the centre, uniform in ± this share of the patch'),
  probability: number(0, 1, 'chance of a rotation, and of a scale, in a view'),
  intensity: object('Changes of intensity, in standard deviations of the image.', {
    brightness: number(0, 10, 'added: uniform in ± this'),
    contrast: number(0, 1, 'multiplied: uniform in 1 ± this'),
    noise: number(0, 10, 'standard deviation of noise: uniform in 0 … this'),
  }),
  nonSpatial: oneOf(
    'the views without spatial change: the patch itself, or with brightness and contrast; code: these alone have them',
    'identity',
    'brightness+contrast',
    'code',
  ),
  interpolation: oneOf('interpolation of images', 'linear', 'cubic'),
});

const preset = oneOf('where values come from that are not given', 'default', 'paper-2d', 'code-2d');
const common = { preset, model, optimizer, init, data, train, augment };

const SCHEMA_ID = 'https://macl.dev/config.schema.json';

/** A definition's name: that of the default method is the task's alone. */
const definitionOf = (task: Task, method: Method): string =>
  method === methodNamed(task) ? task : `${task}-${method.name}`;

const pretraining = METHOD_NAMES.map((name) => methodNamed('pretrain', name));

/** Pre-training has a definition a method, because each has a loss of its own. */
const definitions: Record<string, JsonSchema> = {
  ...Object.fromEntries(
    pretraining.map((method) => {
      const isDefault = method === methodNamed('pretrain');
      const words = isDefault ? 'Pre-training.' : `Pre-training with ${method.name}: ${method.describe}.`;
      return [
        definitionOf('pretrain', method),
        object(
          words,
          { task: { const: 'pretrain' }, method: oneOf('the method', method.name), ...common, loss: method.lossSchema },
          isDefault ? ['task'] : ['task', 'method'],
        ),
      ];
    }),
  ),
  finetune: object(
    'Fine-tuning.',
    { task: { const: 'finetune' }, ...common, loss: methodNamed('finetune').lossSchema },
    ['task'],
  ),
};

export const configSchema: JsonSchema = {
  $schema: 'http://json-schema.org/draft-07/schema#',
  $id: SCHEMA_ID,
  title: 'Configuration of macl',
  oneOf: Object.keys(definitions).map((name) => ({ $ref: `#/definitions/${name}` })),
  definitions,
};

/** Every setting of a task by its path, as `train.steps`. */
export function settingPaths(task: Task): string[] {
  const walk = (schema: JsonSchema, path: string): string[] => {
    const properties = schema.properties as Record<string, JsonSchema> | undefined;
    if (!properties) return [path];
    return Object.entries(properties).flatMap(([key, inner]) => walk(inner, path === '' ? key : `${path}.${key}`));
  };
  const methods = task === 'pretrain' ? pretraining : [methodNamed(task)];
  return [...new Set(methods.flatMap((method) => walk(definitions[definitionOf(task, method)]!, '')))];
}

/** Checks keys, types and ranges. Throws MaclError `config` that says path, expected and found. `source` names the file. */
export function checkSchema(value: unknown, source = 'configuration'): asserts value is ConfigInput {
  if (!isObject(value)) throw wrong(source, '', 'an object', value);
  refuseHiddenKeys(value, source, []);
  const { task, method } = value;
  if (task !== 'pretrain' && task !== 'finetune') throw wrong(source, 'task', 'pretrain or finetune', task);
  if (task === 'pretrain' && method !== undefined && !METHOD_NAMES.includes(method as string))
    throw wrong(source, 'method', METHOD_NAMES.join(' or '), method);
  const named = methodNamed(task, task === 'pretrain' ? (method as string | undefined) : undefined);
  const errors = violations(definitions[definitionOf(task, named)]!, value);
  if (errors.length === 0) return;
  // Branches of an `anyOf` report too: the deepest error is the one that is meant; at the same depth the last (the anyOf's).
  const deepest = errors.reduce((best, e) => (depth(e) >= depth(best) ? e : best));
  throw fromViolation(deepest, source);
}

const isObject = (v: unknown): v is Record<string, unknown> => typeof v === 'object' && v !== null && !Array.isArray(v);
const depth = (e: Violation): number => e.instancePath.split('/').length;
const pathOf = (pointer: string): string =>
  pointer.slice(1).replaceAll('/', '.').replaceAll('~1', '/').replaceAll('~0', '~');

/** `__proto__` and the like, which a careless merge would take for more than a key. JSON.parse makes them own keys. */
function refuseHiddenKeys(value: Record<string, unknown>, source: string, path: string[]): void {
  for (const key of Object.keys(value)) {
    const at = [...path, key];
    if (key === '__proto__' || key === 'constructor' || key === 'prototype') throw unknownKey(source, at.join('.'));
    const inner = value[key];
    if (isObject(inner)) refuseHiddenKeys(inner, source, at);
  }
}

function unknownKey(source: string, path: string, known?: readonly string[]): MaclError {
  const words = known
    ? `${didYouMean(path.slice(path.lastIndexOf('.') + 1), known)}; known here: ${known.join(', ')}`
    : '';
  return new MaclError('config', `${source}: ${path}: unknown key${words}`, {
    field: path,
    expected: known,
    found: path,
  });
}

function wrong(source: string, path: string, expected: string, found: unknown): MaclError {
  const where = path === '' ? '' : `${path}: `;
  return new MaclError('config', `${source}: ${where}expected ${expected}, found ${show(found)}`, {
    field: path,
    expected,
    found,
  });
}

function fromViolation(error: Violation, source: string): MaclError {
  const path = pathOf(error.instancePath);
  const inside = (key: unknown) => (path === '' ? String(key) : `${path}.${String(key)}`);
  const parent = error.parentSchema as
    { description?: string; properties?: object; minItems?: number; maxItems?: number } | undefined;
  if (error.keyword === 'additionalProperties') {
    return unknownKey(source, inside(error.params['additionalProperty']), Object.keys(parent?.properties ?? {}));
  }
  if (error.keyword === 'required') return wrong(source, inside(error.params['missingProperty']), 'a value', undefined);
  const words = parent?.description ? ` (${parent.description})` : '';
  return wrong(source, path, expectedOf(error) + (error.keyword === 'anyOf' ? '' : words), error.data);
}

function expectedOf(error: Violation): string {
  const { keyword, params, parentSchema } = error;
  switch (keyword) {
    case 'type':
      return `${/^[aeiou]/.test(String(params['type'])) ? 'an' : 'a'} ${params['type'] === 'array' ? 'list' : String(params['type'])}`;
    case 'enum':
      return (params['allowedValues'] as unknown[])
        .map((v) => (typeof v === 'string' ? v : JSON.stringify(v)))
        .join(' or ');
    case 'minimum':
      return `at least ${String(params['limit'])}`;
    case 'maximum':
      return `at most ${String(params['limit'])}`;
    case 'exclusiveMinimum':
      return `above ${String(params['limit'])}`;
    case 'exclusiveMaximum':
      return `below ${String(params['limit'])}`;
    case 'minItems':
    case 'maxItems': {
      const { minItems, maxItems } = parentSchema as { minItems: number; maxItems: number };
      return minItems === maxItems ? `${minItems} entries` : `${minItems} to ${maxItems} entries`;
    }
    case 'anyOf':
      return String((parentSchema as { description?: string }).description);
    default:
      return keyword === 'const' ? String(params['allowedValue']) : keyword;
  }
}

/** A found value in an error message; JSON hides NaN. */
function show(value: unknown): string {
  if (value === undefined) return 'nothing';
  if (typeof value === 'number') return String(value);
  const plain = (_k: string, v: unknown) => (typeof v === 'number' && !Number.isFinite(v) ? String(v) : v);
  let text: string;
  try {
    text = JSON.stringify(value, plain) ?? showValue(value);
  } catch {
    // Bigints and circles.
    text = showValue(value);
  }
  return text.length > 80 ? `${text.slice(0, 77)}...` : text;
}
