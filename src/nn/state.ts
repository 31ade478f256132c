/**
 * The state of a network: parameters, running statistics, optimiser moments and the step count, each with a name, a
 * PyTorch shape and a place in the `state` segment. Parameters lie side by side (and so do their moments, and the running
 * statistics), so that an optimiser is one kernel over one range. A checkpoint is this table by name.
 */
import { MaclError } from '../errors.js';
import type { Held } from '../backend/types.js';
import { alignUp } from '../graph/plan.js';
import { sizeOf } from '../graph/shape.js';
import { DTYPE_BYTES, type DType, type Shape, type Tensor } from '../graph/types.js';

/** How a tensor begins. `kaiming` is normal with a = 0.01 and the given fan-in; `uniform` is in ±bound. */
export type Init =
  | { readonly kind: 'constant'; readonly value: number }
  | { readonly kind: 'kaiming'; readonly fanIn: number }
  | { readonly kind: 'uniform'; readonly bound: number };

/**
 * What the entries of a state are, and where each goes: into a checkpoint (what a run needs to go on), into a model (what
 * the weights mean). Parameters are what the optimiser changes; a statistic belongs to a norm; a moment and a counter to the
 * optimiser; a twin is an average of parameters, a queue holds rows of earlier steps, a buffer anything else of a method.
 */
const STATE_ROLES = {
  parameter: { checkpoint: true, model: true },
  statistic: { checkpoint: true, model: true },
  moment: { checkpoint: true, model: false },
  counter: { checkpoint: true, model: false },
  twin: { checkpoint: true, model: false },
  queue: { checkpoint: true, model: false },
  buffer: { checkpoint: true, model: false },
} as const satisfies Record<string, { readonly checkpoint: boolean; readonly model: boolean }>;
export type StateRole = keyof typeof STATE_ROLES;

/** Roles whose entries lie side by side, so that one kernel takes them all. */
const isFlat = (role: StateRole): boolean => role === 'parameter' || role === 'statistic' || role === 'twin';

const rolesOf = (where: 'checkpoint' | 'model'): readonly StateRole[] =>
  (Object.keys(STATE_ROLES) as StateRole[]).filter((role) => STATE_ROLES[role][where]);
export const CHECKPOINT_ROLES = rolesOf('checkpoint');
export const MODEL_ROLES = rolesOf('model');

export interface StateEntry {
  /** The name in safetensors. */
  readonly name: string;
  /** PyTorch's shape. */
  readonly shape: readonly number[];
  readonly role: StateRole;
  readonly init: Init;
  readonly tensor: Tensor;
}

export type MomentName = 'm' | 'v';

/** Fills a PyTorch shape up with ones. */
function shape5(shape: readonly number[]): Shape {
  return [shape[0] ?? 1, shape[1] ?? 1, shape[2] ?? 1, shape[3] ?? 1, shape[4] ?? 1];
}

/** Roles that a network declares; moments and counters are the optimiser's. */
export type DeclaredRole = Exclude<StateRole, 'moment' | 'counter'>;

/**
 * Parameters that train alike lie side by side, range by range: an optimiser is one kernel a range. Within a range the order
 * is that of declaration.
 */
export interface ParameterLayout {
  /** Names of the ranges, in order; the counter of a range is `optimizer.step.<name>`, `optimizer.step` of ''. */
  readonly ranges: readonly string[];
  /** Place of a parameter's range in `ranges`. */
  rangeOf(entry: Pick<StateEntry, 'name' | 'shape' | 'role'>): number;
}

/** All parameters train alike. */
const ONE_RANGE: ParameterLayout = { ranges: [''], rangeOf: () => 0 };

/** The parameters of a range and what the optimiser keeps for them, flat. */
export interface StateRange {
  readonly name: string;
  /** Place of its first element in `StateTable.weights`. */
  readonly offset: number;
  readonly parameterCount: number;
  readonly weights: Tensor;
  readonly moments: Partial<Record<MomentName, Tensor>>;
  /** Steps taken: float64. */
  readonly steps: Tensor | undefined;
}

/** Collects what a network declares. Order is the order of declaration, and is part of the format of `state`. */
export class StateBuilder {
  /** `follows` is the name without prefixes: of a twin, that of its parameter. */
  private readonly declared: { entry: Omit<StateEntry, 'tensor'>; tensor: Tensor; follows: string }[] = [];
  private nextId = -1;
  private readonly prefixes: {
    readonly prefix: string;
    readonly roles: Partial<Record<DeclaredRole, DeclaredRole>>;
  }[] = [];

  readonly real: DType;
  private readonly alignment: number;

  constructor({ real, alignment }: Held) {
    this.real = real;
    this.alignment = alignment;
  }

  private tensor(name: string, shape: Shape, dtype: DType): Tensor {
    // Negative ids: state tensors are shared by graphs that number their own from 0.
    return { id: this.nextId--, name, shape, dtype, segment: 'state', opaque: false };
  }

  /**
   * Declares the same modules once more: what `body` declares has `prefix` before its name and the roles that `roles` gives
   * it, as the averaged copy of an encoder has: `under('target.', { parameter: 'twin' }, …)`.
   */
  under<T>(prefix: string, roles: Partial<Record<DeclaredRole, DeclaredRole>>, body: () => T): T {
    this.prefixes.push({ prefix, roles });
    try {
      return body();
    } finally {
      this.prefixes.pop();
    }
  }

  /** @param dtype `real`, or an entry's own */
  declare(
    given: string,
    shape: readonly number[],
    declaredRole: DeclaredRole,
    init: Init,
    dtype: DType = this.real,
  ): Tensor {
    const inner = [...this.prefixes].reverse();
    const name = inner.reduce((at, { prefix }) => prefix + at, given);
    const role = inner.reduce((at, { roles }) => roles[at] ?? at, declaredRole);
    if (this.declared.some((d) => d.entry.name === name)) throw new MaclError('program', `${name} is declared twice`);
    if (isFlat(role) && dtype !== this.real)
      throw new MaclError('program', `${name}: a ${role} is held in ${this.real}, found ${dtype}`);
    const tensor = this.tensor(name, shape5(shape), dtype);
    this.declared.push({ entry: { name, shape, role, init }, tensor, follows: given });
    return tensor;
  }

  /** What has been declared so far, without places. */
  get entries(): readonly Omit<StateEntry, 'tensor'>[] {
    return this.declared.map(({ entry }) => entry);
  }

  /**
   * @param moments which moments the optimiser keeps
   * @param counter whether it counts steps, for each range
   * @param layout which parameters lie together; ranges without any are left out
   */
  finish(moments: readonly MomentName[], counter: boolean, layout: ParameterLayout = ONE_RANGE): StateTable {
    const parameters = this.declared.filter((d) => d.entry.role === 'parameter');
    const others = this.declared.filter((d) => !isFlat(d.entry.role));
    const offsets = new Map<Tensor, number>();
    const entries: StateEntry[] = [];
    const count = parameters.reduce((sum, p) => sum + sizeOf(p.tensor.shape), 0);
    let bytes = 0;
    const place = (t: Tensor) => {
      offsets.set(t, bytes);
      bytes += alignUp(sizeOf(t.shape) * DTYPE_BYTES[t.dtype], this.alignment);
      return t;
    };
    const flat = (name: string) => place(this.tensor(name, [count, 1, 1, 1, 1], this.real));
    const zero: Init = { kind: 'constant', value: 0 };

    // Entries stay in the order of declaration, whatever lies where: what a tensor begins with goes by its number.
    const weights = flat('parameters');
    const ranges: { name: string; offset: number; parameterCount: number }[] = [];
    let at = 0;
    layout.ranges.forEach((name, range) => {
      const offset = at;
      for (const { entry, tensor } of parameters) {
        if (layout.rangeOf(entry) !== range) continue;
        tensor.view = { of: weights, offset: at, dense: true };
        at += sizeOf(tensor.shape);
      }
      if (at > offset) ranges.push({ name, offset, parameterCount: at - offset });
    });
    if (at !== count) throw new MaclError('program', `the ranges hold ${at} of ${count} parameters`);
    for (const { entry, tensor } of parameters) entries.push({ ...entry, tensor });
    const flatMoments: Partial<Record<MomentName, Tensor>> = {};
    for (const moment of moments) {
      const whole = flat(`optimizer.${moment}`);
      flatMoments[moment] = whole;
      for (const { entry, tensor } of parameters) {
        const name = `optimizer.${moment}.${entry.name}`;
        const part = this.tensor(name, tensor.shape, this.real);
        part.view = { of: whole, offset: tensor.view!.offset, dense: true };
        entries.push({ name, shape: entry.shape, role: 'moment', init: zero, tensor: part });
      }
    }
    const sideBySide = (name: string, role: StateRole): Tensor | undefined => {
      const parts = this.declared.filter((d) => d.entry.role === role);
      const size = parts.reduce((sum, { tensor }) => sum + sizeOf(tensor.shape), 0);
      if (size === 0) return undefined;
      const whole = place(this.tensor(name, [size, 1, 1, 1, 1], this.real));
      at = 0;
      // Twins lie as the parameters that they follow do.
      const rangeOf = ({ entry, follows }: (typeof parts)[number]) =>
        layout.rangeOf({ ...entry, name: follows, role: 'parameter' });
      const placed = role === 'twin' ? [...parts].sort((a, b) => rangeOf(a) - rangeOf(b)) : parts;
      for (const { tensor } of placed) {
        tensor.view = { of: whole, offset: at, dense: true };
        at += sizeOf(tensor.shape);
      }
      for (const { entry, tensor } of parts) entries.push({ ...entry, tensor });
      return whole;
    };
    const running = sideBySide('running', 'statistic');
    for (const { entry, tensor } of others) entries.push({ ...entry, tensor: place(tensor) });
    const twins = sideBySide('twins', 'twin');
    const counterOf = (range: string): Tensor => {
      const name = range === '' ? 'optimizer.step' : `optimizer.step.${range}`;
      const steps = place(this.tensor(name, [1, 1, 1, 1, 1], 'f64'));
      entries.push({ name, shape: [1], role: 'counter', init: zero, tensor: steps });
      return steps;
    };
    const placed = ranges.map((range): StateRange => {
      const part = (whole: Tensor): Tensor => {
        if (range.parameterCount === count) return whole;
        const t = this.tensor(`${whole.name}.${range.name}`, [range.parameterCount, 1, 1, 1, 1], this.real);
        t.view = { of: whole, offset: range.offset, dense: true };
        return t;
      };
      return {
        ...range,
        weights: part(weights),
        moments: Object.fromEntries(Object.entries(flatMoments).map(([name, whole]) => [name, part(whole)])),
        steps: counter ? counterOf(range.name) : undefined,
      };
    });
    return { entries, offsets, bytes, weights, running, twins, ranges: placed, parameterCount: count };
  }
}

export interface StateTable {
  readonly entries: readonly StateEntry[];
  /** Byte offsets of the tensors that own memory. */
  readonly offsets: ReadonlyMap<Tensor, number>;
  readonly bytes: number;
  /** All parameters, flat. */
  readonly weights: Tensor;
  /** All running statistics, flat, in the order of declaration: a norm's mean and behind it its variance. */
  readonly running: Tensor | undefined;
  /** All twins, flat, in the order of the parameters that they follow. */
  readonly twins: Tensor | undefined;
  readonly ranges: readonly StateRange[];
  readonly parameterCount: number;
}

/** Where an entry's bytes lie in the state segment. */
export function addressOfEntry(table: StateTable, entry: StateEntry): { offset: number; bytes: number } {
  const { tensor } = entry;
  const root = tensor.view?.of ?? tensor;
  const base = table.offsets.get(root);
  if (base === undefined) throw new MaclError('program', `${entry.name} has no place in the state`);
  const size = DTYPE_BYTES[tensor.dtype];
  return { offset: base + (tensor.view?.offset ?? 0) * size, bytes: sizeOf(tensor.shape) * size };
}
