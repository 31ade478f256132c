/**
 * Which parameters of a network train alike: `optimizer.groups`, and what a sawtooth holds back in its first part. It
 * knows names and shapes; where the parameters then lie is `nn/state.ts`'s, what a step does with them `update.ts`'s.
 */
import type { Backbone } from '../backbones/index.js';
import { MaclError } from '../errors.js';
import type { ParameterLayout, StateEntry, StateTable } from '../nn/state.js';
import type { OptimizerConfig, ParameterGroup, ParameterPart } from '../settings/types.js';
import { counted } from '../words.js';

/** The part of a run that a step belongs to: `first` is a sawtooth's, in which what was loaded is frozen. */
export type RunPart = 'first' | 'all';

/** How the parameters of a range train. */
export interface RangeRule {
  /** As in the state: '' is the default group's. */
  readonly name: string;
  readonly lr: number;
  readonly weightDecay: boolean;
  /** When it is trained. */
  readonly trains: 'always' | 'after the first part' | 'never';
}

type Named = Pick<StateEntry, 'name' | 'shape' | 'role'>;

/** Rules by range, and the range of every parameter and statistic. */
export interface Grouping extends ParameterLayout {
  readonly rules: readonly RangeRule[];
}

const DEFAULT_GROUP: ParameterGroup = { parts: [], lr: 1, weightDecay: true, frozen: false };

/** Trained ones first, so that the gradients of a step lie together: always, then after a sawtooth's first part. */
const ORDER: readonly RangeRule['trains'][] = ['always', 'after the first part', 'never'];

/**
 * @param entries all that the network declares
 * @param loaded names of the tensors that came from another run
 * @throws MaclError `config` for a group that names nothing, or where nothing is left to train
 */
export function groupingOf(
  { groups, schedule }: Pick<OptimizerConfig, 'groups' | 'schedule'>,
  { partOf }: Pick<Backbone, 'partOf'>,
  entries: readonly Named[],
  loaded: readonly string[],
): Grouping {
  const wasLoaded = new Set(loaded);
  const norms = normsOf(entries);
  const isIn = (part: ParameterPart, { name }: Named): boolean => {
    if (part === 'loaded' || part === 'fresh') return wasLoaded.has(name) === (part === 'loaded');
    if (part === 'norms') return norms.has(moduleOf(name));
    if (part === 'biases') return name.endsWith('.bias');
    return part === (partOf(name)?.part ?? 'projectors');
  };
  const groupOf = (entry: Named): number => {
    const at = groups.findIndex(({ parts }) => parts.some((part) => isIn(part, entry)));
    return at < 0 ? groups.length : at;
  };
  const sawtooth = schedule === 'sawtooth';
  const rules = [...groups, DEFAULT_GROUP].flatMap(({ lr, weightDecay, frozen }, g): RangeRule[] => {
    const name = g === groups.length ? '' : String(g + 1);
    const rule = { name, lr, weightDecay };
    if (frozen) return [{ ...rule, trains: 'never' }];
    const second = {
      ...rule,
      name: name === '' ? 'loaded' : `${name}.loaded`,
      trains: 'after the first part',
    } as const;
    return [{ ...rule, trains: 'always' }, ...(sawtooth ? [second] : [])];
  });
  const ordered = ORDER.flatMap((trains) => rules.filter((rule) => rule.trains === trains));
  const rangeOf = (entry: Named): number => {
    const name = groupOf(entry) === groups.length ? '' : String(groupOf(entry) + 1);
    const held = sawtooth && wasLoaded.has(entry.name);
    const second = name === '' ? 'loaded' : `${name}.loaded`;
    const at = held ? ordered.findIndex((rule) => rule.name === second) : -1;
    return at >= 0 ? at : ordered.findIndex((rule) => rule.name === name);
  };
  checkGroups(groups, entries, groupOf, ordered, rangeOf);
  return { ranges: ordered.map(({ name }) => name), rules: ordered, rangeOf };
}

/** The name without its last word. */
const moduleOf = (name: string): string => name.slice(0, name.lastIndexOf('.'));

/** Modules that keep statistics, or whose weight has one axis: everything else with a weight has two or more. */
function normsOf(entries: readonly Named[]): ReadonlySet<string> {
  const isNorm = ({ name, shape, role }: Named) =>
    role === 'statistic' || (role === 'parameter' && name.endsWith('.weight') && shape.length === 1);
  return new Set(entries.filter(isNorm).map(({ name }) => moduleOf(name)));
}

function checkGroups(
  groups: readonly ParameterGroup[],
  entries: readonly Named[],
  groupOf: (entry: Named) => number,
  rules: readonly RangeRule[],
  rangeOf: (entry: Named) => number,
): void {
  const parameters = entries.filter(({ role }) => role === 'parameter');
  const refuse = (field: string, expected: string, found: string): never => {
    throw new MaclError('config', `${field}: expected ${expected}, found ${found}`, { field, expected, found });
  };
  const used = new Set(parameters.map(groupOf));
  for (const [g, { parts }] of groups.entries())
    if (!used.has(g))
      refuse(`optimizer.groups[${g}].parts`, 'parts of the network that no group before it has', parts.join(', '));
  const trained = new Set(parameters.map((p) => (rules[rangeOf(p)] as RangeRule).trains));
  if (!trained.has('always') && !trained.has('after the first part'))
    refuse('optimizer.groups', 'something to train', 'groups that freeze everything');
  if (!trained.has('always'))
    refuse(
      'optimizer.schedule',
      'something fresh to train in the first part of a sawtooth',
      'nothing that was not loaded',
    );
}

/** Whether a rule's parameters hold still in a part of the run. */
export const isFrozen = ({ trains }: RangeRule, part: RunPart): boolean =>
  trains === 'never' || (trains === 'after the first part' && part === 'first');

/** In words, for a plan: what trains otherwise, and how many parameters hold still. */
export function describeGroups(
  { groups }: Pick<OptimizerConfig, 'groups'>,
  { ranges }: Pick<StateTable, 'ranges'>,
  { rules }: Grouping,
): string[] {
  const lines = ranges.map(({ name, parameterCount }): string => {
    const rule = rules.find((r) => r.name === name) as RangeRule;
    const group = groups[Number.parseInt(name, 10) - 1];
    const half = name.endsWith('loaded') ? ' (loaded)' : '';
    const what = `${group ? group.parts.join(', ') : 'the rest'}${half}`;
    const amount = `${parameterCount.toLocaleString('en')} parameters`;
    if (rule.trains === 'never') return `${what}: ${amount}, frozen`;
    const rate = rule.lr === 1 ? 'the learning rate' : `${rule.lr} of the learning rate`;
    const decay = rule.weightDecay ? '' : ', no weight decay';
    const when = rule.trains === 'always' ? '' : ', frozen in the first part';
    return `${what}: ${amount}, ${rate}${decay}${when}`;
  });
  if (lines.length === 1) return [];
  const frozen = ranges.filter(({ name }) => rules.find((r) => r.name === name)?.trains === 'never');
  const still = frozen.reduce((sum, { parameterCount }) => sum + parameterCount, 0);
  const words = still > 0 ? `; ${still.toLocaleString('en')} parameters are never trained` : '';
  return [`parameters in ${counted(lines.length, 'group')}${words}`, ...lines.map((line) => `  ${line}`)];
}
