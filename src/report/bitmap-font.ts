/**
 * A 5×7 bitmap font for printable ASCII, so that pictures carry text on machines without fonts. Anything else is drawn
 * as a question mark.
 */

/** Width and height of a character's cell, the gap included. */
export const GLYPH_WIDTH = 6;
export const GLYPH_HEIGHT = 9;

/** Five columns a character from the space on, two hexadecimal digits each; bit 0 is the top row, bit 7 a descender. */
const COLUMNS =
  '000000000000005f00000007000700147f147f14242a7f2a12231308646236495620500000070000001c2241000041221c002a1c7f1c2a' +
  '08083e080800503000000808080808006060000020100804023e5149453e00427f400072494949462141494d331814127f102745454539' +
  '3c4a49493141211109073649494936464949291e0000140000004034000000081422411414141414412214080002015909063e415d594e' +
  '7c1211127c7f494949363e414141227f4141413e7f494949417f090909013e414151737f0808087f00417f41002040413f017f08142241' +
  '7f404040407f021c027f7f0408107f3e4141413e7f090909063e4151215e7f09192946264949493203017f01033f4040403f1f2040201f' +
  '3f4038403f631408146303047804036159494d43007f4141410204081020004141417f0402010204404040404000030708002054547840' +
  '7f284444383844444428384444287f385454541800087e090218a4a49c787f0804047800447d40002040403d007f1028440000417f4000' +
  '7c047804787c080404783844444438fc1824241818242418fc7c08040408485454542404043f44243c4040207c1c2040201c3c4030403c' +
  '44281028444c9090907c4464544c440008364100000077000000413608000201020402';

/** Calls `plot` for every set pixel of `text`, from its upper left corner on. */
export function drawText(text: string, plot: (x: number, y: number) => void): void {
  let left = 0;
  for (const character of text) {
    let code = character.codePointAt(0)! - 32;
    if (code < 0 || code > 94) code = '?'.charCodeAt(0) - 32;
    for (let column = 0; column < 5; column++) {
      const bits = parseInt(COLUMNS.slice(10 * code + 2 * column, 10 * code + 2 * column + 2), 16);
      for (let row = 0; row < 8; row++) if ((bits >> row) & 1) plot(left + column, row);
    }
    left += GLYPH_WIDTH;
  }
}
