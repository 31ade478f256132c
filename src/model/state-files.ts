/**
 * State on its way between a session and files, piece by piece: no second copy of it is ever held. What the entries are, and
 * which of them fit, is `network-state.ts`'s.
 */
import type { OpenSafetensors } from '../data/files.js';
import { PIECE_BYTES, SAFETENSORS_DTYPES, type TensorEntry, type TensorStream } from '../data/safetensors.js';
import { fileError, MaclError } from '../errors.js';
import { decode, type Values } from '../graph/codec.js';
import { addressOfEntry, type StateRole, type StateTable } from '../nn/state.js';
import { checkTensors, setEntry, viewOfEntry } from './network-state.js';

/** Reads bytes of a session's state. */
export type ReadState = (offset: number, bytes: number) => Uint8Array;

const areFinite = (values: Values): boolean => values.every(Number.isFinite);

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
    const { dtype } = entry.tensor;
    const pieces = function* (): Iterable<Uint8Array> {
      for (let at = 0; at < bytes; at += PIECE_BYTES) {
        const piece = read(offset + at, Math.min(PIECE_BYTES, bytes - at));
        if (!areFinite(decode(dtype, piece)))
          throw new MaclError('nonfinite', `${entry.name} is not finite ${when}: nothing was saved`);
        yield piece;
      }
    };
    out.set(entry.name, { dtype: SAFETENSORS_DTYPES[dtype], shape: [...entry.shape], byteLength: bytes, pieces });
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
    // A run that goes on in the other precision converts a tensor at a time.
    const same = tensor.dtype === SAFETENSORS_DTYPES[entry.tensor.dtype];
    const target = same ? state.subarray(offset) : new Uint8Array(tensor.end - tensor.start);
    let at = 0;
    for await (const piece of from.pieces(tensor)) {
      target.set(piece, at);
      at += piece.length;
    }
    if (!same) setEntry(table, state, entry, { dtype: tensor.dtype, shape: tensor.shape, bytes: target });
    if (!areFinite(viewOfEntry(table, entry, state)))
      throw fileError(from.file, entry.name, 'has values that are not finite');
  }
}
