/**
 * State by name: initial values, and the way between a session's `state` segment and safetensors tensors (PyTorch's layouts
 * on both sides, so it is a copy). No Node modules; files are `state-files.ts`'s.
 */
import type { Host } from '../backend/types.js';
import { Breather } from '../breathe.js';
import { FLOAT32_MAX } from '../half.js';
import { Draws, PURPOSE } from '../philox.js';
import { asFloat32, asFloat64, SAFETENSORS_DTYPES, type RawTensor } from '../data/safetensors.js';
import { MaclError, memoryError } from '../errors.js';
import { encodeInto, viewOf, type Values } from '../graph/codec.js';
import { DTYPE_BYTES } from '../graph/types.js';
import { addressOfEntry, MODEL_ROLES, type StateEntry, type StateRole, type StateTable } from '../nn/state.js';
import { counted } from '../words.js';

const KAIMING_SLOPE = 0.01;

/** An entry's bytes in the state's. */
function bytesOf(table: StateTable, entry: StateEntry, state: Uint8Array): Uint8Array {
  const { offset, bytes } = addressOfEntry(table, entry);
  return state.subarray(offset, offset + bytes);
}

/** Typed view of an entry in the state's bytes. */
export const viewOfEntry = (table: StateTable, entry: StateEntry, state: Uint8Array): Values =>
  viewOf(entry.tensor.dtype, bytesOf(table, entry, state));

/** The whole state segment, all zero, in the host's memory. @throws MaclError `memory` where it does not fit */
export function emptyState({ bytes }: Pick<StateTable, 'bytes'>, host: Host): Uint8Array {
  const what = "the network's weights and optimiser state";
  const free = host.hostFreeBytes;
  if (bytes > free) throw memoryError(what, bytes, free);
  try {
    return new Uint8Array(bytes);
  } catch (cause) {
    throw memoryError(what, bytes, free, {}, cause);
  }
}

/** The whole state segment at step 0: Kaiming normal with a = 0.01 and so on, from counter-based draws of the seed. */
export function initialState(table: StateTable, seed: number, host: Host): Uint8Array {
  const state = emptyState(table, host);
  table.entries.forEach((entry, index) => {
    const values = viewOfEntry(table, entry, state);
    const draws = new Draws(seed, 0, index, PURPOSE.weights);
    const { init } = entry;
    if (init.kind === 'constant') values.fill(init.value);
    else if (init.kind === 'uniform')
      for (let i = 0; i < values.length; i++) values[i] = draws.range(-init.bound, init.bound);
    else {
      const sd = Math.sqrt(2 / (1 + KAIMING_SLOPE ** 2) / init.fanIn);
      for (let i = 0; i < values.length; i++) values[i] = sd * draws.normal();
    }
  });
  return state;
}

/** Entries of some roles as named tensors (copies). */
export function stateTensors(
  table: StateTable,
  state: Uint8Array,
  roles: readonly StateRole[],
): Map<string, RawTensor> {
  const out = new Map<string, RawTensor>();
  for (const entry of table.entries) {
    if (!roles.includes(entry.role)) continue;
    const dtype = SAFETENSORS_DTYPES[entry.tensor.dtype];
    out.set(entry.name, { dtype, shape: [...entry.shape], bytes: bytesOf(table, entry, state).slice() });
  }
  return out;
}

/** Names that files from PyTorch may have and that mean nothing here. */
export const isIgnoredName = (name: string): boolean => name.endsWith('.num_batches_tracked');

/** Copies one tensor into the state, whatever float type the file holds. Throws where the shape differs. */
export function setEntry(table: StateTable, state: Uint8Array, entry: StateEntry, tensor: RawTensor): void {
  if (tensor.shape.join() !== entry.shape.join()) {
    throw new MaclError(
      'weights',
      `${entry.name}: expected shape [${entry.shape.join(', ')}], found [${tensor.shape.join(', ')}]`,
      {
        field: entry.name,
        expected: entry.shape,
        found: tensor.shape,
      },
    );
  }
  const { dtype } = entry.tensor;
  // float32 stays as it is on the way; only a wider type is rounded.
  const values = dtype === 'f32' ? asFloat32(tensor, entry.name) : asFloat64(tensor, entry.name);
  encodeInto(bytesOf(table, entry, state), dtype, values, entry.name);
}

const BLOCK = 1 << 16;

/**
 * Every weight is a finite float32 and no running variance is below 0: anything else would give a result that is none, and
 * nothing would say so.
 * @throws MaclError `weights` that names file and tensor
 */
export async function checkWeights(tensors: ReadonlyMap<string, RawTensor>, file: string): Promise<void> {
  const breath = new Breather();
  for (const [name, tensor] of tensors) {
    if (isIgnoredName(name)) continue;
    const values = tensor.dtype === 'F64' ? asFloat64(tensor, name) : asFloat32(tensor, name);
    const least = name.endsWith('.running_var') ? 0 : -FLOAT32_MAX;
    for (let start = 0; start < values.length; start += BLOCK) {
      const end = Math.min(start + BLOCK, values.length);
      for (let i = start; i < end; i++) {
        const value = values[i]!;
        if (value >= least && value <= FLOAT32_MAX) continue;
        const expected = least === 0 ? 'a variance of at least 0' : 'a finite float32';
        throw new MaclError('weights', `${file}: ${name}: element ${i}: expected ${expected}, found ${value}`, {
          file,
          field: name,
          expected,
          found: value,
          tensors: [name],
        });
      }
      if (breath.due()) await breath.breathe();
    }
  }
}

/** Looks at names and shapes alone. Missing, unknown or misshapen tensors are all listed in one error. */
export function checkTensors(
  table: StateTable,
  tensors: ReadonlyMap<string, Pick<RawTensor, 'shape'>>,
  roles: readonly StateRole[],
  file: string,
): void {
  const wrong: string[] = [];
  const names = new Set<string>();
  for (const entry of table.entries) {
    if (!roles.includes(entry.role)) continue;
    names.add(entry.name);
    const found = tensors.get(entry.name);
    if (!found) wrong.push(`${entry.name}: expected [${entry.shape.join(', ')}], found nothing`);
    else if (found.shape.join() !== entry.shape.join())
      wrong.push(`${entry.name}: expected [${entry.shape.join(', ')}], found [${found.shape.join(', ')}]`);
  }
  for (const name of tensors.keys())
    if (!names.has(name) && !isIgnoredName(name)) wrong.push(`${name}: not part of this model`);
  if (wrong.length > 0) {
    throw new MaclError(
      'weights',
      `${file}: ${counted(wrong.length, 'tensor')} that ${wrong.length === 1 ? 'does' : 'do'} not fit the model:\n  ${wrong.join('\n  ')}`,
      {
        file,
        tensors: wrong.map((w) => w.slice(0, w.indexOf(':'))),
      },
    );
  }
}

/** A file's weights as a state; moments and counters are zero. Nothing large is taken before the weights fit. */
export async function weightsState(
  table: StateTable,
  tensors: ReadonlyMap<string, RawTensor>,
  file: string,
  host: Host,
): Promise<Uint8Array> {
  checkTensors(table, tensors, MODEL_ROLES, file);
  const state = emptyState(table, host);
  const breath = new Breather();
  for (const entry of table.entries) {
    if (!MODEL_ROLES.includes(entry.role)) continue;
    setEntry(table, state, entry, tensors.get(entry.name) as RawTensor);
    if (breath.due()) await breath.breathe();
  }
  return state;
}

/** Shape and name of every trained parameter's gradient in the flat buffer; frozen ones lie behind its end. */
export function gradientTensors(table: StateTable, flat: Uint8Array): Map<string, RawTensor> {
  const out = new Map<string, RawTensor>();
  for (const entry of table.entries) {
    if (entry.role !== 'parameter') continue;
    const { dtype } = entry.tensor;
    const size = DTYPE_BYTES[dtype];
    const start = (entry.tensor.view?.offset ?? 0) * size;
    const count = entry.shape.reduce((p, s) => p * s, 1);
    if (start + count * size > flat.length) continue;
    out.set(`grad.${entry.name}`, {
      dtype: SAFETENSORS_DTYPES[dtype],
      shape: [...entry.shape],
      bytes: flat.slice(start, start + count * size),
    });
  }
  return out;
}
