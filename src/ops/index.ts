/** All operations. Importing this registers every kernel. */
export * from './conv3d.js';
export * from './upconv3d.js';
export * from './linear.js';
export * from './normact.js';
export * from './maxpool3d.js';
export * from './avgpool.js';
export * from './resize3d.js';
export * from './supcon.js';
export * from './densesupcon.js';
export * from './l1.js';
export * from './softmaxce.js';
export * from './dice.js';
export * from './elementwise.js';
export * from './warp3d.js';
export * from './boxmix.js';
export * from './optim.js';
export * from './views.js';
import './loss-grad.js';
