import { execFileSync } from 'node:child_process';
import { mkdirSync, readdirSync, readFileSync, writeFileSync } from 'node:fs';
import { createServer } from 'node:net';
import { join } from 'node:path';
import { describe, expect, it } from 'vitest';
import { Breather } from '../../src/breathe.js';
import { readSafetensorsFile, readWholeFile, writeFileAtomic, writeSafetensorsFile } from '../../src/data/files.js';
import { readNifti } from '../../src/data/nifti/index.js';
import { asFloat32, rawTensor, writeSafetensors } from '../../src/data/safetensors.js';
import { testFolder } from './make-nifti.js';

const folder = testFolder();

describe('writeFileAtomic', () => {
  it('writes bytes, text and chunks', async () => {
    const path = join(folder, 'a.txt');
    await writeFileAtomic(path, 'ä');
    expect(readFileSync(path, 'utf8')).toBe('ä');
    await writeFileAtomic(path, [Uint8Array.of(1), Uint8Array.of(2, 3)]);
    expect([...(await readWholeFile(path))]).toEqual([1, 2, 3]);
    await writeFileAtomic(path, Uint8Array.of(9));
    expect([...readFileSync(path)]).toEqual([9]);
  });

  it('keeps the old file and removes the temporary one when the disk is full', async () => {
    const path = join(folder, 'full.bin');
    await writeFileAtomic(path, 'old');
    const full = Object.assign(new Error('ENOSPC: no space left on device, write'), { code: 'ENOSPC' });
    function* chunks(): Generator<Uint8Array> {
      yield new Uint8Array(1000);
      throw full;
    }
    const before = readdirSync(folder);
    await expect(writeFileAtomic(path, chunks())).rejects.toMatchObject({
      code: 'file',
      message: `${path}: write: no space left on the device (ENOSPC)`,
      details: { file: path, field: 'write' },
      cause: full,
    });
    expect(readFileSync(path, 'utf8')).toBe('old');
    expect(readdirSync(folder)).toEqual(before);
  });

  it('stops at a signal and leaves nothing', async () => {
    const controller = new AbortController();
    function* chunks(): Generator<Uint8Array> {
      yield new Uint8Array(10);
      controller.abort();
      yield new Uint8Array(10);
    }
    const path = join(folder, 'aborted.bin');
    await expect(writeFileAtomic(path, chunks(), { signal: controller.signal })).rejects.toMatchObject({
      code: 'aborted',
    });
    expect(readdirSync(folder).filter((name) => name.includes('aborted'))).toEqual([]);
  });

  it('names a folder that cannot be written', async () => {
    await expect(writeFileAtomic(join(folder, 'none', 'x'), 'x')).rejects.toThrow(/none\/x: write: no such file/);
  });
});

describe('what is no regular file', () => {
  it('is refused by name, without waiting for a writer', { timeout: 5000 }, async () => {
    const [pipe, socket, inner] = ['pipe.nii', 'socket.nii', 'folder.nii'].map((name) => join(folder, name)) as [
      string,
      string,
      string,
    ];
    execFileSync('mkfifo', [pipe]);
    mkdirSync(inner);
    const server = createServer().listen(socket);
    try {
      for (const path of [pipe, socket, '/dev/zero']) {
        const refused = { code: 'file', message: expect.stringMatching(`${path}: .*is not a regular file`) as string };
        await expect(readWholeFile(path)).rejects.toMatchObject(refused);
        await expect(readNifti(path)).rejects.toMatchObject(refused);
      }
      await expect(readNifti(inner)).rejects.toMatchObject({ code: 'file', details: { file: inner } });
    } finally {
      server.close();
    }
  });
});

describe('safetensors files', () => {
  it('come back whole, aligned, and equal to the bytes', async () => {
    const path = join(folder, 'w.safetensors');
    const tensors = new Map([
      ['b', rawTensor(Uint8Array.of(1, 2, 3), [3])],
      ['a', rawTensor(Float32Array.of(1, 2), [2])],
    ]);
    await writeSafetensorsFile(path, tensors, { k: 'v' });
    expect(new Uint8Array(readFileSync(path))).toEqual(writeSafetensors(tensors, { k: 'v' }));
    const back = await readSafetensorsFile(path);
    expect(asFloat32(back.tensors.get('a')!)).toEqual(Float32Array.of(1, 2));
    writeFileSync(path, readFileSync(path).subarray(0, -1));
    await expect(readSafetensorsFile(path)).rejects.toThrow(/w\.safetensors: data: .*11 bytes, the file has 10/);
    writeFileSync(path, Uint8Array.of(255, 255, 255, 255, 255, 255, 255, 127, 1));
    await expect(readSafetensorsFile(path)).rejects.toThrow(/header length/);
  });
});

describe('Breather', () => {
  it('gives timers a turn while work goes on, and ends at a signal', async () => {
    let turns = 0;
    const timer = setInterval(() => turns++, 1);
    const breath = new Breather(undefined, 1);
    while (turns < 3) await breath.maybe();
    clearInterval(timer);
    const controller = new AbortController();
    const other = new Breather(controller.signal);
    await other.maybe();
    controller.abort(new Error('why'));
    expect(other.due()).toBe(true);
    await expect(other.maybe()).rejects.toMatchObject({ code: 'aborted', cause: { message: 'why' } });
    expect(() => new Breather(controller.signal)).toThrow('aborted');
  });
});
