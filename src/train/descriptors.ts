/**
 * Makes the samples of a step ready: descriptors that say where each view's volume lies and how it is warped, and the boxes
 * of volumes that are not resident. Nothing of the session is touched, so another step may run meanwhile.
 */
import { relativeTo } from '../data/sampling/affine.js';
import type { Triple } from '../volume.js';
import { MaclError } from '../errors.js';
import type { CompiledProgram } from '../graph/compile.js';
import { WARP_WORDS, writeDescriptor, type WarpParams } from '../ops/index.js';
import type { Executor } from '../model/executor.js';
import type { StepBoxes, VolumeStore } from './volume-store.js';

type NamedWarp = readonly [name: string, warp: WarpParams];

export class DescriptorWriter {
  private readonly words = new Map<string, Float64Array>();
  private readonly boxes: StepBoxes;

  /**
   * Takes the memory of a step's boxes.
   * @param channels of the network; a volume with one channel serves them all
   * @throws MaclError `memory`
   */
  constructor(
    private readonly executor: Executor,
    private readonly program: CompiledProgram,
    private readonly store: VolumeStore,
    private readonly channels: number,
  ) {
    this.boxes = store.boxes(executor.backend.info.hostFreeBytes);
  }

  /**
   * Views of sample n out of one case, and its labels where an input for them is named. Once `flush` was called the program
   * must have begun to run before the next step's samples come.
   * @param slot of the store that the case's box may take; one for each case that a step draws
   */
  async sample(
    n: number,
    slot: number,
    caseIndex: number,
    views: readonly NamedWarp[],
    patch: Triple,
    labels?: NamedWarp,
  ): Promise<void> {
    const place = await this.store.place(
      this.boxes,
      slot,
      caseIndex,
      [...views, ...(labels ? [labels] : [])].map(([, w]) => w.affine),
      patch,
    );
    const here = (warp: WarpParams) => ({ ...warp, affine: relativeTo(warp.affine, place.origin) });
    for (const [name, warp] of views) {
      const words = this.wordsOf(name);
      for (let c = 0; c < this.channels; c++) writeDescriptor(words, n * this.channels + c, place.image(c), here(warp));
    }
    if (!labels) return;
    if (!place.labels) throw new MaclError('program', 'a training case has no labels');
    writeDescriptor(this.wordsOf(labels[0]), n, place.labels, here(labels[1]));
  }

  private wordsOf(name: string): Float64Array {
    let words = this.words.get(name);
    if (!words) {
      const slot = this.program.io.get(name);
      if (!slot) throw new MaclError('program', `the program has no input ${name}`);
      words = new Float64Array(slot.bytes / 8);
      if (words.length % WARP_WORDS !== 0) throw new MaclError('program', `${name} does not hold descriptors`);
      this.words.set(name, words);
    }
    return words;
  }

  /**
   * Gives the samples to the executor: they are the input of the program's next run.
   * @param program or of another one with the same inputs
   */
  flush(program = this.program): void {
    for (const [name, words] of this.words) this.executor.set(program, name, words);
    this.executor.setStore(program, this.boxes.filled);
  }
}
