/** The registry of methods: `method` of a pre-training → its object. A new one is a file beside this and a line here. */
import type { ResolvedConfig, Task } from '../settings/types.js';
import { MaclError } from '../errors.js';
import { didYouMean } from '../suggest.js';
import { macl } from './macl.js';
import { pcl } from './pcl.js';
import { segmentation } from './segmentation.js';
import { simclr } from './simclr.js';
import type { Method } from './types.js';
import { volumefusion } from './volumefusion.js';

const PRETRAINING: readonly Method[] = [macl, simclr, pcl, volumefusion];
const DEFAULT = macl.name;

/** Values of `method`, the default first. */
export const METHOD_NAMES: readonly string[] = PRETRAINING.map(({ name }) => name);

/** @param method of a pre-training; the default where it is not given. @throws MaclError `config` */
export function methodNamed(task: Task, method: string = DEFAULT): Method {
  if (task === 'finetune') return segmentation;
  const found = PRETRAINING.find(({ name }) => name === method);
  if (found) return found;
  const words = `method: expected ${METHOD_NAMES.join(' or ')}, found ${method}${didYouMean(method, METHOD_NAMES)}`;
  throw new MaclError('config', words, { field: 'method', expected: METHOD_NAMES, found: method });
}

export function methodOf(config: ResolvedConfig): Method {
  return methodNamed(config.task, config.task === 'pretrain' ? config.method : undefined);
}

export { segmentation } from './segmentation.js';
export type * from './types.js';
