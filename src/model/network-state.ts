/**
 * State by name: initial values, and the way between a session's `state` segment and safetensors (PyTorch's layouts on
 * both sides, so it is a copy).
 */
import { freeBytes } from '../backend/limits-node.js';
import { Breather } from '../breathe.js';
import { Draws, PURPOSE } from '../philox.js';
import { PIECE_BYTES, type OpenSafetensors } from '../data/files.js';
import { asFloat32, asFloat64, type RawTensor, type TensorEntry, type TensorStream } from '../data/safetensors.js';
import { fileError, MaclError, memoryError } from '../errors.js';
import { addressOfEntry, type StateEntry, type StateTable } from '../nn/state.js';
import { counted } from '../words.js';

export type StateRole = StateEntry['role'];
/** What a run needs to go on. */
export const CHECKPOINT_ROLES = ['parameter', 'statistic', 'moment', 'counter'] as const satisfies readonly StateRole[];
/** What a model is. */
export const MODEL_ROLES = ['parameter', 'statistic'] as const satisfies readonly StateRole[];
const KAIMING_SLOPE = 0.01;

/** Typed view of an entry in the state's bytes. */
function viewOf(table: StateTable, entry: StateEntry, state: Uint8Array): Float32Array | Float64Array {
  const { offset, bytes } = addressOfEntry(table, entry);
  const at = state.byteOffset + offset;
  return entry.tensor.dtype === 'f64'
    ? new Float64Array(state.buffer, at, bytes / 8)
    : new Float32Array(state.buffer, at, bytes / 4);
}

/** The whole state segment, all zero. @throws MaclError `memory` where it does not fit */
export function emptyState({ bytes }: Pick<StateTable, 'bytes'>): Uint8Array {
  const what = "the network's weights and optimiser state";
  const free = freeBytes();
  if (bytes > free) throw memoryError(what, bytes, free);
  try {
    return new Uint8Array(bytes);
  } catch (cause) {
    throw memoryError(what, bytes, free, {}, cause);
  }
}

/** The whole state segment at step 0: Kaiming normal with a = 0.01 and so on, from counter-based draws of the seed. */
export function initialState(table: StateTable, seed: number): Uint8Array {
  const state = emptyState(table);
  table.entries.forEach((entry, index) => {
    const values = viewOf(table, entry, state);
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
    const { offset, bytes } = addressOfEntry(table, entry);
    const dtype = entry.tensor.dtype === 'f64' ? 'F64' : 'F32';
    out.set(entry.name, { dtype, shape: [...entry.shape], bytes: state.slice(offset, offset + bytes) });
  }
  return out;
}

/** Reads bytes of a session's state. */
export type ReadState = (offset: number, bytes: number) => Uint8Array;

const isFiniteIn = (piece: Uint8Array, dtype: RawTensor['dtype']): boolean => {
  const aligned = piece.byteOffset % 8 === 0 ? piece : piece.slice();
  const { buffer, byteOffset, byteLength } = aligned;
  const values =
    dtype === 'F64'
      ? new Float64Array(buffer, byteOffset, byteLength / 8)
      : new Float32Array(buffer, byteOffset, byteLength / 4);
  return values.every(Number.isFinite);
};

/**
 * Entries of some roles as tensors that are read from the session piece by piece while they are written: saving takes no
 * memory that the plan does not know of. Throws `nonfinite` while writing, so that nothing of it is kept.
 */
export function stateStreams(
  table: StateTable,
  read: ReadState,
  roles: readonly StateRole[],
  when: string,
): Map<string, TensorStream> {
  const out = new Map<string, TensorStream>();
  for (const entry of table.entries) {
    if (!roles.includes(entry.role)) continue;
    const { offset, bytes } = addressOfEntry(table, entry);
    const dtype = entry.tensor.dtype === 'f64' ? 'F64' : 'F32';
    const pieces = function* (): Iterable<Uint8Array> {
      for (let at = 0; at < bytes; at += PIECE_BYTES) {
        const piece = read(offset + at, Math.min(PIECE_BYTES, bytes - at));
        if (!isFiniteIn(piece, dtype))
          throw new MaclError('nonfinite', `${entry.name} is not finite ${when}: nothing was saved`);
        yield piece;
      }
    };
    out.set(entry.name, { dtype, shape: [...entry.shape], byteLength: bytes, pieces });
  }
  return out;
}

/** Tensors of a file that are copied piece by piece into another one. */
export function fileStreams(
  table: StateTable,
  from: OpenSafetensors,
  roles: readonly StateRole[],
): Map<string, TensorStream> {
  checkTensors(table, tensorsByName(from), roles, from.file);
  return new Map(
    from.entries.map((entry) => {
      const { name, dtype, shape, start, end } = entry;
      return [name, { dtype, shape, byteLength: end - start, pieces: () => from.pieces(entry) }];
    }),
  );
}

const tensorsByName = ({ entries }: OpenSafetensors) => new Map(entries.map((e) => [e.name, e]));

/**
 * Reads every entry of some roles from a file of ours into the state, with no second copy of either. Throws `file` where
 * a value is not finite: nothing that was saved is.
 */
export async function readStateFile(
  table: StateTable,
  state: Uint8Array,
  from: OpenSafetensors,
  roles: readonly StateRole[],
): Promise<void> {
  const found = tensorsByName(from);
  checkTensors(table, found, roles, from.file);
  for (const entry of table.entries) {
    if (!roles.includes(entry.role)) continue;
    const tensor = found.get(entry.name) as TensorEntry;
    const { offset } = addressOfEntry(table, entry);
    const dtype = entry.tensor.dtype === 'f64' ? 'F64' : 'F32';
    // A run that goes on in the other precision converts a tensor at a time.
    const same = tensor.dtype === dtype;
    const target = same ? state.subarray(offset) : new Uint8Array(tensor.end - tensor.start);
    let at = 0;
    for await (const piece of from.pieces(tensor)) {
      target.set(piece, at);
      at += piece.length;
    }
    if (!same) setEntry(table, state, entry, { dtype: tensor.dtype, shape: tensor.shape, bytes: target });
    if (!viewOf(table, entry, state).every(Number.isFinite))
      throw fileError(from.file, entry.name, 'has values that are not finite');
  }
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
  // float32 stays as it is on the way; only a wider type is rounded.
  viewOf(table, entry, state).set(entry.tensor.dtype === 'f64' ? asFloat64(tensor) : asFloat32(tensor));
}

/** The largest number that the kernels compute with. */
const FLOAT32_MAX = 3.4028234663852886e38;
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

/** Looks at names and shapes alone. Missing, unknown or misshapen tensors are all listed in one error (fault 23). */
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
): Promise<Uint8Array> {
  const roles: readonly StateRole[] = ['parameter', 'statistic'];
  checkTensors(table, tensors, roles, file);
  const state = emptyState(table);
  const breath = new Breather();
  for (const entry of table.entries) {
    if (!roles.includes(entry.role)) continue;
    setEntry(table, state, entry, tensors.get(entry.name) as RawTensor);
    if (breath.due()) await breath.breathe();
  }
  return state;
}

/** Shape and name of every parameter's gradient in the flat buffer. */
export function gradientTensors(table: StateTable, flat: Uint8Array): Map<string, RawTensor> {
  const out = new Map<string, RawTensor>();
  for (const entry of table.entries) {
    if (entry.role !== 'parameter') continue;
    const size = entry.tensor.dtype === 'f64' ? 8 : 4;
    const start = (entry.tensor.view?.offset ?? 0) * size;
    const count = entry.shape.reduce((p, s) => p * s, 1);
    out.set(`grad.${entry.name}`, {
      dtype: size === 8 ? 'F64' : 'F32',
      shape: [...entry.shape],
      bytes: flat.slice(start, start + count * size),
    });
  }
  return out;
}
