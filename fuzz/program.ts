/** Programs (docs/program.md): a real one with changed bytes, loaded and run on the float64 reference of the addon. */
import { openReference } from '../src/backend/reference.js';
import type { Backend } from '../src/backend/types.js';
import { MaclError } from '../src/errors.js';
import { EDGES, Random } from './random.js';
import type { Target } from './target.js';

const SIZES = { state: 4096, scratch: 65536, io: 4096, store: 4096 };
const NAME = 8;

/** A program of random calls over the registered kernels: right in structure, arbitrary in what it asks for. */
function program(kernels: Backend['info']['kernels'], random: Random): Uint8Array {
  const calls = Array.from({ length: 1 + random.below(3) }, () => random.pick(kernels));
  const names = [...new Set(calls.map((c) => c.name))];
  const parts: number[][] = [];
  const bytesOf = (count: number, write: (view: DataView) => void): number[] => {
    const view = new DataView(new ArrayBuffer(count));
    write(view);
    return [...new Uint8Array(view.buffer)];
  };
  parts.push(
    bytesOf(64, (v) => {
      [0x4c43414d, 1, calls.length, names.length].forEach((n, i) => v.setUint32(4 * i, n, true));
      v.setInt32(16, random.chance(0.3) ? random.below(4) : -1, true);
      v.setBigInt64(24, BigInt(random.chance(0.9) ? 8 * random.below(8) : -8), true);
    }),
  );
  for (const name of names)
    parts.push(
      bytesOf(Math.ceil((4 + name.length) / NAME) * NAME, (v) => {
        v.setUint32(0, name.length, true);
        [...name].forEach((c, i) => v.setUint8(4 + i, c.charCodeAt(0)));
      }),
    );
  for (const call of calls) {
    const ports = call.tensors.split(/[ >]+/).filter((p) => p !== '');
    const fields = call.attrs.split(';').filter((f) => f !== '');
    const shape = Array.from({ length: 5 }, () => 1 + random.below(random.chance(0.9) ? 5 : 40));
    parts.push(
      bytesOf(16 + 80 * ports.length + 8 * fields.length, (v) => {
        const commit = random.chance(0.1) ? 1 : 0;
        [names.indexOf(call.name), commit, ports.length, 8 * fields.length].forEach((n, i) =>
          v.setUint32(4 * i, n, true),
        );
        ports.forEach((port, i) => {
          const at = 16 + 80 * i;
          if (port.endsWith('?') && random.chance(0.4)) return v.setInt32(at, -1, true);
          const opaque = /^w[sp]\??$/.test(port);
          const scalar = random.chance(0.25);
          const own = scalar ? [1, 1, 1, 1, 1] : shape.map((s) => (random.chance(0.9) ? s : 1 + random.below(5)));
          const size = opaque ? [64 * (1 + random.below(200)), 1, 1, 1, 1] : own;
          const dtype = opaque ? 6 : scalar ? 1 : random.chance(0.9) ? 1 : random.below(8);
          const width = [4, 8, 4, 2, 2, 2, 1][dtype] ?? 1;
          const ld = (size[4] as number) + (random.chance(0.1) && !opaque ? random.below(4) : 0);
          const voxels = size.slice(0, 4).reduce((a, b) => a * b, 1);
          const extent = ((voxels - 1) * ld + (size[4] as number)) * width;
          v.setInt32(at, random.chance(0.98) ? 1 : random.below(6) - 1, true);
          v.setInt32(at + 4, dtype, true);
          const most = Math.max(0, Math.floor((65536 - extent) / 64));
          [64 * random.below(most + 1), extent, ...size, ld, 0].forEach((n, k) =>
            v.setBigInt64(at + 8 + 8 * k, BigInt(random.chance(0.997) ? n : wild(random)), true),
          );
        });
        fields.forEach((field, i) => {
          const at = 16 + 80 * ports.length + 8 * i;
          if (field.startsWith('i64'))
            v.setBigInt64(at, BigInt(random.chance(0.95) ? random.pick([0, 1, 1, 2, 3]) : wild(random)), true);
          else v.setFloat64(at, random.chance(0.9) ? random.below(100) / 50 : random.pick(EDGES), true);
        });
      }),
    );
  }
  return Uint8Array.from(parts.flat());
}

/** A whole number from the edges that an int64 holds. */
function wild(random: Random): number {
  const value = random.pick(EDGES);
  return Number.isFinite(value) && Math.abs(value) < 2 ** 63 ? Math.trunc(value) : -1;
}

let backend: Backend | undefined;
export const programs: Target = {
  name: 'program',
  describe: 'programs of random calls with random tensors and attributes, loaded and run on the reference',
  async setUp() {
    backend = await openReference({ threads: 2 });
  },
  async run(number) {
    const random = new Random(number);
    const { createSession, info } = { createSession: backend!.createSession.bind(backend), info: backend!.info };
    const session = await createSession(SIZES);
    try {
      const noise = new Float64Array(SIZES.scratch / 8).map(() => random.word() / 2 ** 31 - 1);
      session.write('scratch', 0, new Uint8Array(noise.buffer));
      await session.run(session.load(program(info.kernels, random)));
    } catch (error) {
      // The engine's own words for a program that it does not take; the session stays usable.
      if (!(error instanceof MaclError)) throw error;
      session.read('state', 0, 8);
      throw error;
    } finally {
      await session.close();
    }
  },
  async tearDown() {
    await backend?.close();
  },
};
