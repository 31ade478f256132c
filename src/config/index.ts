/** Everything about configurations, in one import. */
export { checkBottleneck, checkPatch, nearestSizes, patchUnit } from './check.js';
export { describePlan } from './describe.js';
export {
  shapeAt,
  targetSpacingMm,
  type CaseFingerprint,
  type ChannelKind,
  type Fingerprint,
  type IntensityFingerprint,
} from '../settings/fingerprint.js';
export { planData, planFinetune, planPretrain, type Plan, type PlanOptions } from './plan.js';
export { positiveShare } from './positives.js';
export { PRESETS, presetInput, presetLacks } from './presets.js';
export { meaningOf, readConfig, resolveConfig } from './resolve.js';
export { checkSchema, configSchema, settingPaths } from './schema.js';
export type * from '../settings/types.js';
