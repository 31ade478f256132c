/** All case lists. A file that is not here, and a kernel that no case runs, fail test/golden/coverage.test.ts. */
import { add } from './add.js';
import { avgpool } from './avgpool.js';
import { boxmix } from './boxmix.js';
import { concat } from './concat.js';
import { conv3d } from './conv3d.js';
import { copy } from './copy.js';
import { dice } from './dice.js';
import { fill } from './fill.js';
import { l1 } from './l1.js';
import { linear } from './linear.js';
import { maxpool3d } from './maxpool3d.js';
import { normact } from './normact.js';
import { optim } from './optim.js';
import { resize3d } from './resize3d.js';
import { round } from './round.js';
import { scale } from './scale.js';
import { softmaxce } from './softmaxce.js';
import { supcon } from './supcon.js';
import type { OpCases } from './types.js';
import { upconv3d } from './upconv3d.js';
import { warp3d } from './warp3d.js';
import { wsum } from './wsum.js';

export const OPS: readonly OpCases[] = [
  add,
  avgpool,
  boxmix,
  concat,
  conv3d,
  copy,
  dice,
  fill,
  l1,
  linear,
  maxpool3d,
  normact,
  optim,
  resize3d,
  round,
  scale,
  softmaxce,
  supcon,
  upconv3d,
  warp3d,
  wsum,
];
