import { mkdirSync, readdirSync, readFileSync, statSync } from 'node:fs';
import { join } from 'node:path';
import { gunzipSync, gzipSync } from 'node:zlib';
import { describe, expect, it } from 'vitest';
import { MaclError } from '../../src/errors.js';
import { fromRas, readNifti, readNiftiHeader, toRas, writeNifti } from '../../src/data/nifti/index.js';
import { type Triple } from '../../src/volume.js';
import { extension, IDENTITY, makeNifti, put, ramp, testFolder } from './make-nifti.js';

const folder = testFolder();

async function failure(promise: Promise<unknown>): Promise<MaclError> {
  const error: unknown = await promise.then(
    () => undefined,
    (e: unknown) => e,
  );
  expect(error).toBeInstanceOf(MaclError);
  return error as MaclError;
}

describe('reading', () => {
  const values = Int16Array.from({ length: 24 }, (_, i) => i * 100 - 1200);
  const swapped = new Uint8Array(values.buffer.slice(0));
  Buffer.from(swapped.buffer).swap16();

  it.each([
    [1, true, 'a.nii'],
    [1, false, 'b.nii.gz'],
    [2, true, 'c.nii.gz'],
    [2, false, 'd.nii'],
  ] as const)('NIfTI-%i, little endian %s, %s', async (version, littleEndian, name) => {
    const data = littleEndian ? new Uint8Array(values.buffer) : swapped;
    const sform = [0.5, 0, 0, -3, 0, 2, 0, 4, 0, 0, 3, 5];
    const file = put(folder, name, makeNifti({ version, littleEndian, code: 4, bitpix: 16, data, sform }));
    const image = await readNifti(file);
    expect(image.voxels).toEqual(values);
    expect(image.header).toMatchObject({ version, littleEndian, shape: [2, 3, 4], channels: 1, affineSource: 'sform' });
    expect([...image.header.affine]).toEqual([...sform, 0, 0, 0, 1]);
    const { volume } = await toRas(image);
    expect(volume.grid.shape).toEqual([4, 3, 2]);
    expect(volume.grid.spacingMm).toEqual([3, 2, 0.5]);
    expect(volume.voxels).toBe(image.voxels);
    expect(await readNiftiHeader(file)).toEqual(image.header);
  });

  it('counts the fourth dimension as channels', async () => {
    const image = await readNifti(put(folder, '4d.nii', makeNifti({ dims: [2, 3, 4, 2], data: ramp(48) })));
    expect(image.header.channels).toBe(2);
    const { volume } = await toRas(image);
    expect(volume.channels).toBe(2);
    expect(volume.voxels).toEqual(ramp(48));
  });

  it('scales by slope and intercept, and not at all where the slope is NaN or 0', async () => {
    const read = async (slope: number, inter: number): Promise<number> => {
      const file = put(folder, 'scale.nii', makeNifti({ data: new Uint8Array(24).fill(10), slope, inter }));
      return (await toRas(await readNifti(file))).volume.voxels[5]!;
    };
    expect(await read(0.5, 3)).toBe(8);
    expect(await read(NaN, NaN)).toBe(10);
    expect(await read(0, 3)).toBe(10);
    expect(await read(2, NaN)).toBe(20);
  });

  it('reads int64 that float64 can hold, and refuses what it cannot', async () => {
    const data = (n: bigint): Uint8Array => new Uint8Array(new BigInt64Array(24).fill(n).buffer);
    const made = (n: bigint): Uint8Array => makeNifti({ code: 1024, bitpix: 64, data: data(n) });
    expect((await readNifti(put(folder, 'i64.nii', made(-5n)))).voxels[3]).toBe(-5);
    expect((await failure(readNifti(put(folder, 'i64.nii', made(2n ** 60n))))).message).toMatch(/voxels: voxel 0/);
  });

  it('takes the qform where there is no sform', async () => {
    const r = Math.SQRT1_2;
    const quatern = { b: 0, c: 0, d: r, offset: [1, 2, 3], qfac: -1 };
    const { affine } = await readNiftiHeader(
      put(folder, 'q.nii', makeNifti({ quatern, pixdim: [-1, 2, 3, 4, 1, 1, 1, 1] })),
    );
    // A quarter turn about z; the third axis runs the other way.
    const expected = [0, -3, 0, 1, 2, 0, 0, 2, 0, 0, -4, 3, 0, 0, 0, 1];
    expected.forEach((value, n) => expect(affine[n]).toBeCloseTo(value, 5));
  });

  it('reads gzip of several members', async () => {
    const bytes = makeNifti({ data: ramp(24) });
    const members = Buffer.concat([gzipSync(bytes.subarray(0, 100)), gzipSync(bytes.subarray(100))]);
    expect((await readNifti(put(folder, 'members.nii.gz', members, false))).voxels).toEqual(ramp(24));
  });

  it('warns about bytes behind the last voxel up to 1 MiB and refuses more', async () => {
    const bytes = makeNifti({ data: ramp(24) });
    for (const name of ['tail.nii', 'tail.nii.gz']) {
      const some = put(folder, name, Buffer.concat([bytes, Buffer.alloc(1 << 20)]));
      expect((await readNifti(some)).warnings.join()).toMatch(/1048576 bytes after the last voxel/);
      const many = put(folder, name, Buffer.concat([bytes, Buffer.alloc((1 << 20) + 1)]));
      expect((await failure(readNifti(many))).details).toEqual({ file: many, field: 'voxels' });
    }
  });

  it('refuses NaN and infinite voxels, or replaces and counts them', async () => {
    const data = new Float32Array(24).fill(2);
    data[3] = NaN;
    data[9] = -Infinity;
    const bytes = makeNifti({ code: 16, bitpix: 32, data: new Uint8Array(data.buffer) });
    const file = put(folder, 'nan.nii.gz', bytes);
    expect((await failure(readNifti(file))).message).toMatch(
      /nan\.nii\.gz: voxels: 2 are NaN, infinite or beyond the range of float32/,
    );
    const image = await readNifti(file, { nonFinite: 'zero' });
    expect(image.nonFinite).toBe(2);
    expect([image.voxels[3], image.voxels[9], image.voxels[10]]).toEqual([0, 0, 2]);
  });

  it('stops at a signal', async () => {
    const file = put(folder, 'abort.nii.gz', makeNifti({ dims: [200, 200, 100] }));
    const before = AbortSignal.abort();
    expect((await failure(readNifti(file, { signal: before }))).code).toBe('aborted');
    const controller = new AbortController();
    const running = readNifti(file, { signal: controller.signal });
    setImmediate(() => controller.abort());
    expect((await failure(running)).code).toBe('aborted');
  });
});

describe('damaged files', () => {
  const good = makeNifti({ data: ramp(24) });
  const patched = (at: number, value: number): Uint8Array => {
    const out = gzipSync(good);
    out[at < 0 ? out.length + at : at] = value;
    return out;
  };
  let state = 1;
  const noise = Uint8Array.from({ length: 200_000 }, () => (state = Math.imul(state, 1103515245) + 12345) >>> 23);
  const noisy = gzipSync(makeNifti({ dims: [100, 100, 20], data: noise }));
  const cases: [string, Uint8Array, RegExp][] = [
    ['empty', new Uint8Array(0), /size: the file is empty/],
    ['ten bytes', new Uint8Array(10), /header: 10 bytes/],
    ['ten bytes of gzip', gzipSync(new Uint8Array(10)), /header: 10 bytes/],
    ['text', new TextEncoder().encode('x'.repeat(1000)), /sizeof_hdr/],
    ['voxels cut short', good.subarray(0, good.length - 5), /voxels: are cut short: expected 24 bytes, found 19/],
    ['voxels cut short in gzip', gzipSync(good.subarray(0, good.length - 5)), /voxels: are cut short/],
    ['huge dims', makeNifti({ dims: [32767, 32767, 32767], data: ramp(24) }), /voxels: are cut short: expected 3518/],
    [
      'huge dims in gzip',
      gzipSync(makeNifti({ dims: [32767, 32767, 32767], data: ramp(24) })),
      /dim: 3518.*cannot come/,
    ],
    ['dims beyond 2^53 together', makeNifti({ dims: [32767, 32767, 32767, 32767], data: ramp(1) }), /dim: .*2\^53/],
    ['zero dim', makeNifti({ dims: [2, 0, 4], data: ramp(24) }), /dim\[2\]: .*found 0/],
    ['negative dim', makeNifti({ dims: [2, 3, -4], data: ramp(24) }), /dim\[3\]: .*found -4/],
    ['dim[0] of 0', makeNifti({ rank: 0, data: ramp(24) }), /dim\[0\]: expected 1 to 7, found 0/],
    ['dim[0] of 8', makeNifti({ rank: 8, data: ramp(24) }), /dim\[0\]: expected 1 to 7, found 8/],
    ['NaN offset', makeNifti({ voxOffset: NaN, data: ramp(24) }), /vox_offset: .*found NaN/],
    ['negative offset', makeNifti({ voxOffset: -352, data: ramp(24) }), /vox_offset: .*found -352/],
    ['offset past the end', makeNifti({ voxOffset: 5000, data: ramp(24) }), /vox_offset: 5000 is past/],
    [
      'offset past the end of gzip',
      gzipSync(makeNifti({ voxOffset: 5000, data: ramp(24) })),
      /vox_offset: 5000 is past/,
    ],
    ['huge offset', gzipSync(makeNifti({ voxOffset: 2 ** 40, data: ramp(24) })), /vox_offset: .*more than/],
    ['infinite offset', makeNifti({ voxOffset: Infinity, data: ramp(24) }), /vox_offset/],
    ['offset in the header', makeNifti({ voxOffset: 100, data: ramp(24) }), /vox_offset/],
    ['unknown datatype', makeNifti({ code: 5, data: ramp(24) }), /datatype: unknown type 5/],
    ['RGB', makeNifti({ code: 128, bitpix: 24, data: ramp(72) }), /datatype: RGB24 \(128\) is not supported/],
    ['bitpix', makeNifti({ code: 4, bitpix: 8, data: ramp(48) }), /bitpix: expected 16 for int16, found 8/],
    ['extension size 0', makeNifti({ extensions: extension(0, 16), data: ramp(24) }), /extension 0: .*found 0/],
    ['extension size -16', makeNifti({ extensions: extension(-16, 16), data: ramp(24) }), /extension 0: .*found -16/],
    ['extension size 20', makeNifti({ extensions: extension(20, 32), data: ramp(24) }), /extension 0: .*found 20/],
    ['extension too long', makeNifti({ extensions: extension(64, 32), data: ramp(24) }), /extension 0: size 64/],
    ['NIfTI-2 dim over 2^53', makeNifti({ version: 2, dims: [2n ** 60n, 1, 1], data: ramp(24) }), /dim\[1\]: .*2\^53/],
    [
      'NIfTI-2 offset over 2^53',
      makeNifti({ version: 2, voxOffset: 2n ** 60n, data: ramp(24) }),
      /vox_offset: .*2\^53/,
    ],
    ['NIfTI-2 header cut', makeNifti({ version: 2 }).subarray(0, 400), /header: 400 bytes/],
    ['bad checksum', patched(-6, 1), /gzip: is damaged/],
    ['gzip cut short', noisy.subarray(0, noisy.length - 20), /gzip: is cut short/],
    ['gzip cut in the middle', noisy.subarray(0, 50_000), /gzip: is cut short/],
    ['gzip of rubbish', Uint8Array.of(0x1f, 0x8b, 8, 0, 0, 0, 0, 0, 0, 3, 255, 255, 255, 255), /gzip/],
    [
      'singular affine',
      makeNifti({ sform: [1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0], data: ramp(24) }),
      /sform: .*singular/,
    ],
    ['affine of zeros', makeNifti({ sform: Array<number>(12).fill(0), data: ramp(24) }), /sform: .*singular/],
    ['NaN in the affine', makeNifti({ sform: IDENTITY.map((v, i) => (i === 3 ? NaN : v)) }), /sform: .*not finite/],
    ['zero spacing', makeNifti({ pixdim: [1, 1, 0, 1, 1, 1, 1, 1] }), /pixdim\[2\]: .*found 0/],
    ['negative spacing', makeNifti({ pixdim: [1, -1, 1, 1, 1, 1, 1, 1] }), /pixdim\[1\]: .*found -1/],
    ['NaN spacing', makeNifti({ pixdim: [1, 1, 1, NaN, 1, 1, 1, 1] }), /pixdim\[3\]/],
    ['no rotation', makeNifti({ quatern: { b: 1, c: 1, d: 1, offset: [0, 0, 0], qfac: 1 } }), /quatern/],
    ['header of a pair', makeNifti({ magic: 'ni1\0' }), /magic: ni1/],
    ['no magic', makeNifti({ magic: '\0\0\0\0' }), /magic: expected n\+1/],
  ];
  it.each(cases)('%s', async (name, bytes, message) => {
    const file = put(folder, `${name.replace(/\W/g, '-')}.nii`, bytes, false);
    const error = await failure(readNifti(file));
    expect(error.message).toMatch(message);
    expect(error.message.startsWith(`${file}: `)).toBe(true);
    expect(error.details.file).toBe(file);
    expect(error.message.startsWith(`${file}: ${String(error.details.field)}: `), String(error.details.field)).toBe(
      true,
    );
    expect(error.exitCode).toBe(1);
  });

  it('refuses a bomb without inflating it', async () => {
    const small = makeNifti({ data: ramp(24) });
    const bomb = put(folder, 'bomb.nii.gz', Buffer.concat([gzipSync(small), gzipSync(Buffer.alloc(2 ** 27))]), false);
    const before = process.memoryUsage().rss;
    expect((await failure(readNifti(bomb))).message).toMatch(/more than 1048576 bytes follow/);
    expect(process.memoryUsage().rss - before).toBeLessThan(2 ** 26);
    // A header that admits the size: still refused, before a byte of voxels.
    const zeros = gzipSync(Buffer.alloc(2 ** 27));
    const head = gzipSync(makeNifti({ dims: [2048, 1024, 1024], data: new Uint8Array(0) }));
    const honest = put(folder, 'bomb2.nii.gz', Buffer.concat([head, ...Array<Buffer>(16).fill(zeros)]), false);
    expect((await failure(readNifti(honest))).message).toMatch(/bomb/);
    expect((await failure(readNifti(honest, { maxVoxelBytes: 1e6 }))).message).toMatch(/at most 1000000/);
  });

  it('names a file that is not there, and a folder', async () => {
    expect((await failure(readNifti(join(folder, 'none.nii')))).message).toMatch(/none\.nii: read: no such file/);
    mkdirSync(join(folder, 'dir.nii'));
    expect((await failure(readNifti(join(folder, 'dir.nii')))).message).toMatch(/dir\.nii/);
  });
});

describe('turning to RAS and back', () => {
  // Every order and direction of three axes, on a grid with an oblique tilt.
  const orders: Triple[] = [
    [0, 1, 2],
    [0, 2, 1],
    [1, 0, 2],
    [1, 2, 0],
    [2, 0, 1],
    [2, 1, 0],
  ];
  const tilt = 0.2;
  const [c, s] = [Math.cos(tilt), Math.sin(tilt)];
  const directions = [
    [c, s, 0],
    [-s, c, 0],
    [0, 0, 1],
  ];
  const ras: Triple = [3, 4, 5];
  const spacing = [0.5, 1.25, 3];
  const origin = [10, -20, 30];

  it.each(orders.flatMap((order) => Array.from({ length: 8 }, (_, flips) => [order, flips] as const)))(
    'axes %j, flips %i',
    async (order, flips) => {
      // The file's axis n runs along RAS axis order[n].
      const shape = order.map((axis) => ras[axis]!);
      const sform = Array<number>(12).fill(0);
      for (let row = 0; row < 3; row++) {
        let offset = origin[row]!;
        order.forEach((axis, n) => {
          const step = directions[axis]![row]! * spacing[axis]!;
          const flipped = (flips >> n) & 1;
          sform[4 * row + n] = flipped ? -step : step;
          if (flipped) offset += step * (shape[n]! - 1);
        });
        sform[4 * row + 3] = offset;
      }
      const data = new Uint8Array(60);
      for (let k = 0; k < shape[2]!; k++) {
        for (let j = 0; j < shape[1]!; j++) {
          for (let i = 0; i < shape[0]!; i++) {
            const at = [0, 0, 0];
            order.forEach((axis, n) => {
              const index = [i, j, k][n]!;
              at[axis] = (flips >> n) & 1 ? shape[n]! - 1 - index : index;
            });
            data[(k * shape[1]! + j) * shape[0]! + i] = (at[2]! * 4 + at[1]!) * 3 + at[0]!;
          }
        }
      }
      const name = `ras-${order.join('')}-${flips}.nii.gz`;
      const file = put(
        folder,
        name,
        makeNifti({ dims: shape, data, sform, pixdim: [1, ...order.map((a) => spacing[a]!), 1, 1, 1, 1] }),
      );
      const image = await readNifti(file);
      const { volume, orientation } = await toRas(image);
      expect(volume.grid.shape).toEqual([5, 4, 3]);
      expect([...volume.voxels]).toEqual(Array.from({ length: 60 }, (_, i) => i));
      volume.grid.spacingMm.forEach((mm, n) => expect(mm).toBeCloseTo(spacing[2 - n]!, 5));
      [0, 1, 2].forEach((row) => {
        expect(volume.grid.affine[4 * row + 3]).toBeCloseTo(origin[row]!, 4);
        directions.forEach((d, axis) =>
          expect(volume.grid.affine[4 * row + axis]).toBeCloseTo(d[row]! * spacing[axis]!, 5),
        );
      });
      const out = join(folder, `out-${name}`);
      await writeNifti(out, { like: image, voxels: await fromRas(volume.voxels, orientation) });
      const back = await readNifti(out);
      expect(back.voxels).toEqual(data);
      expect(back.header.affine).toEqual(image.header.affine);
      expect(back.header.shape).toEqual(shape);
    },
  );

  it('turns every channel', async () => {
    const sform = [-1, 0, 0, 1, 0, 1, 0, 0, 0, 0, 1, 0];
    const image = await readNifti(put(folder, 'ch.nii', makeNifti({ dims: [2, 1, 1, 3], data: ramp(6), sform })));
    const { volume, orientation } = await toRas(image);
    expect([...volume.voxels]).toEqual([1, 0, 3, 2, 5, 4]);
    expect(await fromRas(volume.voxels, orientation, 3)).toEqual(ramp(6));
  });
});

describe('writing', () => {
  it.each([
    [1, true],
    [1, false],
    [2, true],
    [2, false],
  ] as const)(
    'keeps grid, form codes, extensions and byte order of NIfTI-%i (little endian %s)',
    async (version, le) => {
      const quatern = { b: 0.1, c: 0.2, d: 0.3, offset: [1, 2, 3], qfac: -1 };
      const made = makeNifti({
        version,
        littleEndian: le,
        code: 4,
        bitpix: 16,
        data: new Uint8Array(96),
        dims: [2, 3, 4, 2],
        quatern,
        sform: [0.5, 0, 0, -3, 0, 2, 0, 4, 0, 0, 3, 5],
        extensions: Buffer.concat([extension(32, 32, le), extension(16, 16, le)]),
        slope: 2,
        inter: 5,
      });
      const image = await readNifti(put(folder, 'like.nii', made));
      const out = join(folder, 'like-out.nii.gz');
      const voxels = ramp(24);
      await writeNifti(out, { like: image, voxels, datatype: 'uint16' });
      const back = await readNifti(out);
      expect([...back.voxels]).toEqual([...voxels]);
      expect(back.header).toMatchObject({
        version,
        littleEndian: le,
        qformCode: 1,
        sformCode: 2,
        channels: 1,
        slope: 1,
      });
      expect(back.header.affine).toEqual(image.header.affine);
      expect(back.extensions).toEqual(image.extensions);
      const written = gunzipSync(readFileSync(out));
      const [at, bytes] = version === 1 ? [252, 76] : [344, 152];
      expect(written.subarray(at, at + bytes)).toEqual(Buffer.from(made.subarray(at, at + bytes)));
    },
  );

  it('makes a header from an affine, the qform agreeing with the sform', async () => {
    const angle = 0.7;
    const [c, s] = [Math.cos(angle), Math.sin(angle)];
    for (const z of [2, -2]) {
      const affine = Float64Array.of(-c, -1.5 * s, 0, 7, -s, 1.5 * c, 0, 8, 0, 0, z, 9, 0, 0, 0, 1);
      const file = join(folder, 'made.nii');
      await writeNifti(file, { shape: [2, 3, 4], affine, voxels: Float32Array.from(ramp(24)) });
      const header = await readNiftiHeader(file);
      header.affine.forEach((value, n) => expect(value).toBeCloseTo(affine[n]!, 5));
      const bytes = readFileSync(file);
      bytes.writeInt16LE(0, 254);
      const q = await readNiftiHeader(put(folder, 'made-q.nii', bytes));
      expect(q.affineSource).toBe('qform');
      q.affine.forEach((value, n) => expect(value).toBeCloseTo(affine[n]!, 5));
    }
  });

  it.each([
    [
      [12, 12],
      [12, 12],
      [1, 1, 0],
    ],
    [[7], [7], [1, 0, 0]],
    [
      [3, 4, 5, 1],
      [3, 4, 5, 1],
      [1, 1, 2],
    ],
    [
      [3, 4, 1, 2],
      [3, 4, 1],
      [1, 1, 2],
    ],
    [
      [3, 4, 5, 1, 2],
      [3, 4, 5],
      [1, 1, 2],
    ],
  ])('of a label volume keeps the rank of an input of %s: %s', async (dims, expected, spacing) => {
    for (const version of [1, 2] as const) {
      const data = new Uint8Array(dims.reduce((a, b) => a * b, 1));
      const pixdim = [1, ...spacing, 0, 0, 0, 0];
      const image = await readNifti(put(folder, 'ranked.nii', makeNifti({ version, dims, data, pixdim })));
      const count = expected.reduce((a, b) => a * b, 1);
      const out = join(folder, 'ranked-out.nii');
      await writeNifti(out, { like: image, voxels: ramp(count) });
      const bytes = readFileSync(out);
      const dim = (n: number) =>
        version === 1 ? bytes.readInt16LE(40 + 2 * n) : Number(bytes.readBigInt64LE(16 + 8 * n));
      expect(Array.from({ length: dim(0) }, (_, n) => dim(n + 1))).toEqual(expected);
      const back = await readNifti(out);
      expect([...back.voxels]).toEqual([...ramp(count)]);
      expect(back.header.affine).toEqual(image.header.affine);
    }
  });

  it('of channels for a slice gives the third axis the spacing that the input was read with', async () => {
    // What the header says of an axis that it does not have: nothing, or anything.
    for (const unused of [0, -3, 7])
      for (const [version, sform, units] of [
        [1, undefined, 2],
        [2, undefined, 3],
        [1, [2, 0, 0, 0, 0, 2, 0, 0, 0, 0, 5, 0], 1],
      ] as const) {
        const made = makeNifti({
          version,
          dims: [4, 6],
          pixdim: [1, 2, 2, unused, 0, 0, 0, 0],
          units,
          ...(sform && { sform: [...sform] }),
        });
        const image = await readNifti(put(folder, 'slice.nii', made));
        const out = join(folder, 'slice-out.nii');
        await writeNifti(out, { like: image, voxels: new Float32Array(72), channels: 3 });
        const back = await readNifti(out);
        expect(back.header).toMatchObject({ shape: [4, 6, 1], channels: 3 });
        expect([...back.header.affine]).toEqual([...image.header.affine]);
        const pixdim = version === 1 ? back.header.raw : null;
        if (pixdim) expect(new DataView(pixdim.buffer).getFloat32(76 + 12, true)).toBe(sform ? 5 : 1);
      }
  });

  it.each([
    ['all zero', Float64Array.of(...Array<number>(15).fill(0), 1), /affine: .*axis i has length 0/],
    ['with parallel axes', Float64Array.of(1, 1, 0, 0, 1, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1), /affine: .*parallel/],
    ['not finite', Float64Array.of(1, 0, 0, NaN, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1), /affine: expected 16 finite/],
    ['that float32 rounds to 0', Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1e-60, 0, 0, 0, 0, 1), /axis k/],
    ['too short', new Float64Array(12), /affine: expected 16/],
  ])('refuses an affine that is %s', async (_, affine, message) => {
    const file = join(folder, 'no-affine.nii');
    const error = await failure(writeNifti(file, { shape: [2, 3, 4], affine, voxels: ramp(24) }));
    expect([error.code, error.details.field]).toEqual(['geometry', 'affine']);
    expect(error.message).toMatch(message);
    expect(error.message).toContain(file);
    expect(readdirSync(folder)).not.toContain('no-affine.nii');
  });

  it('refuses a shape that is none', async () => {
    const affine = Float64Array.of(...IDENTITY, 0, 0, 0, 1);
    const error = await failure(
      writeNifti(join(folder, 'no-shape.nii'), { shape: [2, 0, 4], affine, voxels: ramp(0) }),
    );
    expect([error.code, error.details.field]).toEqual(['geometry', 'shape']);
  });

  it.each([
    [512, ramp(24).reduce((out, v, i) => out.fill(v * 2500, i), new Uint16Array(24))],
    [768, ramp(24).reduce((out, v, i) => out.fill(v * 1e8, i), new Uint32Array(24))],
  ])('keeps unsigned values as datatype %i', async (code, voxels) => {
    const file = join(folder, 'unsigned.nii.gz');
    await writeNifti(file, { shape: [2, 3, 4], affine: Float64Array.of(...IDENTITY, 0, 0, 0, 1), voxels });
    expect((await readNifti(file)).voxels).toEqual(voxels);
    expect(gunzipSync(readFileSync(file)).readInt16LE(70)).toBe(code);
  });

  it('leaves the old file and no temporary one when it fails', async () => {
    const inner = join(folder, 'atomic');
    mkdirSync(inner);
    const file = join(inner, 'x.nii.gz');
    const affine = Float64Array.of(1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1, 0, 0, 0, 0, 1);
    await writeNifti(file, { shape: [2, 3, 4], affine, voxels: ramp(24) });
    const before = readFileSync(file);
    const bad = Float32Array.from(ramp(24));
    bad[20] = 0.5;
    const error = await failure(writeNifti(file, { shape: [2, 3, 4], affine, voxels: bad, datatype: 'uint8' }));
    expect(error.message).toMatch(/voxels: 0\.5 does not fit uint8/);
    expect((await failure(writeNifti(file, { shape: [2, 3, 5], affine, voxels: bad }))).code).toBe('geometry');
    expect((await failure(writeNifti(join(inner, 'no/x.nii'), { shape: [2, 3, 4], affine, voxels: bad }))).code).toBe(
      'file',
    );
    expect(readFileSync(file)).toEqual(before);
    expect(readdirSync(inner)).toEqual(['x.nii.gz']);
    expect(statSync(file).size).toBe(before.length);
  });
});
