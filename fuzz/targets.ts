/** All fuzzers in TypeScript; the ones under sanitizers are in native/fuzz. */
import { commandLine } from './command-line.js';
import { config } from './config.js';
import { dataset } from './dataset.js';
import { nifti } from './nifti.js';
import { programs } from './program.js';
import { safetensors } from './safetensors.js';
import type { Target } from './target.js';

export const TARGETS: readonly Target[] = [nifti, safetensors, config, dataset, programs, commandLine];
