/** Fingerprints of made-up data sets for the planner's tests. Not a test. */
import type { CaseFingerprint, ChannelKind, Fingerprint, Triple } from '../../src/config/index.js';

export function fingerprintOf(
  shapes: readonly Triple[],
  options: { spacingMm?: Triple; kinds?: readonly ChannelKind[]; classes?: number; labelled?: boolean } = {},
): Fingerprint {
  const { spacingMm = [1, 1, 1], kinds = ['other'], classes = 3, labelled = true } = options;
  const cases = shapes.map((shape, i): CaseFingerprint => {
    return { id: `case_${i}`, shape, spacingMm, channels: kinds.length, labelled };
  });
  return {
    cases,
    channelKinds: kinds,
    intensity: kinds.map(() => ({ mean: 40, sd: 80, p005: -200, p995: 300, min: -1024, max: 3071 })),
    classes: Array.from({ length: classes }, (_, value) => ({ value, name: `class ${value}` })),
  };
}

/** Shapes like those of the Decathlon's hippocampi: about 35×50×35, at most 48×64×48. */
export const hippocampi: readonly Triple[] = Array.from({ length: 24 }, (_, i): Triple => [
  30 + ((i * 7) % 15),
  42 + ((i * 5) % 17),
  31 + ((i * 3) % 13),
]);
