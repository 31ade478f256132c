/** "Did you mean": the known word that is nearest to one that is not known. */

/** Steps from one word to another: a letter more, less, another, or two that changed places. */
function distance(a: string, b: string): number {
  let before: number[] = [];
  let last = Array.from({ length: b.length + 1 }, (_, j) => j);
  for (let i = 1; i <= a.length; i++) {
    const row = [i];
    for (let j = 1; j <= b.length; j++) {
      const same = a[i - 1] === b[j - 1];
      let least = Math.min(last[j]! + 1, row[j - 1]! + 1, last[j - 1]! + (same ? 0 : 1));
      const swapped = i > 1 && j > 1 && a[i - 1] === b[j - 2] && a[i - 2] === b[j - 1];
      if (swapped) least = Math.min(least, before[j - 2]! + 1);
      row.push(least);
    }
    before = last;
    last = row;
  }
  return last[b.length]!;
}

const plain = (word: string): string => word.toLowerCase().replace(/[-_\s]/g, '');
const MOST_LETTERS = 64;

/** The known word nearest to `word`, where one is near: about one letter in three may differ. */
export function nearest(word: string, known: Iterable<string>): string | undefined {
  if (word.length > MOST_LETTERS) return undefined;
  let best: string | undefined;
  let least = Math.max(1, Math.floor(word.length / 3)) + 1;
  for (const candidate of known) {
    const steps = distance(plain(word), plain(candidate));
    if (steps < least) [best, least] = [candidate, steps];
  }
  return best;
}

/** `; did you mean X?`, or nothing. */
export function didYouMean(word: string, known: Iterable<string>): string {
  const found = nearest(word, known);
  return found === undefined ? '' : `; did you mean ${found}?`;
}
