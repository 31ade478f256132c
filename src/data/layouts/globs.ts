/** A folder whose images and masks two patterns name: --image-glob (once for each channel) and --label-glob. Node only. */
import { MaclError } from '../../errors.js';
import { compileGlob, type Match } from './glob.js';
import { compareText, namesMask, shownNames, splitOf } from './names.js';
import { pair, pairByNames, splitOfPath, type Volume } from './pairing.js';
import { casesOf, type ImageVolume, niftiBelow } from './patients.js';
import { type Layout } from './types.js';

/** A volume and what a pattern's wildcards stood for in its path. */
interface Matched extends Volume {
  key: string;
}

const fits = (volumes: readonly Volume[], match: Match): Matched[] =>
  volumes.flatMap((volume) => {
    const parts = match(volume.name);
    return parts ? [{ ...volume, key: parts.join('\0') }] : [];
  });

export const globs: Layout = {
  recognise: (folder, { imageGlobs, labelGlob }) =>
    Promise.resolve(folder.file === undefined && (imageGlobs !== undefined || labelGlob !== undefined)),
  async list(folder, { imageGlobs, labelGlob, signal }) {
    const all = await niftiBelow(folder, signal);
    // A folder for testing is taken where a pattern names it, not where one happens to fit.
    const named = [...(imageGlobs ?? []), labelGlob ?? ''].some((pattern) =>
      pattern.split('/').some((part) => splitOf(part) === 'test'),
    );
    const isTest = ({ name }: Volume): boolean => !named && splitOfPath(name) === 'test';
    for (const volume of all) if (isTest(volume)) folder.leaveOut('in a folder for testing', volume.path);
    const volumes = all.filter((volume) => !isTest(volume));
    const nothing = (flag: string, pattern: string): MaclError => {
      const names = volumes.length ? shownNames(volumes.map(({ name }) => name)) : 'none';
      const words = `${folder.root}: ${flag} ${pattern}: fits none of the volumes that are there: ${names}`;
      return new MaclError('dataset', words, { file: folder.root, field: flag, found: pattern });
    };
    const labels = labelGlob === undefined ? [] : fits(volumes, compileGlob(labelGlob, '--label-glob'));
    if (labelGlob !== undefined && !labels.length) throw nothing('--label-glob', labelGlob);
    // A file that fits both is a mask: --image-glob '*.nii.gz' --label-glob '*_seg.nii.gz'.
    const masks = new Set(labels.map(({ path }) => path));
    const others = volumes.filter(({ path }) => !masks.has(path));
    const channels = imageGlobs?.map((pattern) => {
      const found = fits(others, compileGlob(pattern, '--image-glob'));
      if (!found.length) throw nothing('--image-glob', pattern);
      return found;
    }) ?? [others.filter(({ name }) => !namesMask(name)).map((volume) => ({ ...volume, key: volume.name }))];
    const images = joinChannels(channels, imageGlobs ?? []);
    if (!images.length) throw nothing('--image-glob', imageGlobs?.[0] ?? '**');
    const taken = new Set([...masks, ...images.flatMap((image) => image.images)]);
    for (const { path } of others) if (!taken.has(path)) folder.leaveOut('fits no pattern', path);
    return {
      layout: 'globs',
      source: folder.root,
      cases: casesOf(folder, images, pairMatched(images, labels)),
      tests: all.filter((volume) => isTest(volume) && !namesMask(volume.name)),
      classes: [],
    };
  },
};

/** By what the wildcards stood for; where the two patterns have other wildcards, as in a folder without patterns. */
function pairMatched(images: readonly (ImageVolume & Matched)[], labels: readonly Matched[]) {
  const byKey = pair<Matched>(images, labels, [({ key }) => key]);
  return byKey.masks.size ? byKey : pairByNames<Matched>(images, labels);
}

/** One image for each file of the first pattern, with the file of every other that has the same wildcards. */
function joinChannels(channels: readonly Matched[][], patterns: readonly string[]): (ImageVolume & Matched)[] {
  const keys = new Map<string, (Matched | undefined)[]>();
  for (const [channel, found] of channels.entries()) {
    for (const volume of found) {
      const files = keys.get(volume.key) ?? Array<undefined>(channels.length).fill(undefined);
      keys.set(volume.key, files);
      if (files[channel])
        throw new MaclError(
          'dataset',
          `--image-glob ${patterns[channel]}: two files of one case: ${files[channel].name} and ${volume.name}`,
          { file: volume.path, field: '--image-glob' },
        );
      files[channel] = volume;
    }
  }
  const images = [...keys.values()].map((files): ImageVolume & Matched => {
    const known = files.find((file) => file !== undefined)!;
    const paths = files.map((file, channel) => file?.path ?? `${known.path} (as ${patterns[channel]})`);
    return { ...known, images: paths, missing: paths.filter((_, channel) => !files[channel]) };
  });
  return images.sort((a, b) => compareText(a.name, b.name));
}
