// The values of a parametric map, taken out of its file.

/** An element as it begins in a file of explicit VR little endian: tag, VR, two bytes that say nothing. Its length follows. */
interface Kind {
  start: readonly number[];
  bytes: number;
  read(pixels: ArrayBuffer): Float32Array;
}

const SINGLE: Kind = {
  start: [0xe0, 0x7f, 0x08, 0x00, 0x4f, 0x46, 0x00, 0x00],
  bytes: 4,
  read: pixels => new Float32Array(pixels),
};
const DOUBLE: Kind = {
  start: [0xe0, 0x7f, 0x09, 0x00, 0x4f, 0x44, 0x00, 0x00],
  bytes: 8,
  // Seven digits are more than colours can show.
  read: pixels => Float32Array.from(new Float64Array(pixels)),
};
const HEADER_BYTES = 12;

/**
 * Float Pixel Data (7FE0,0008) or Double Float Pixel Data (7FE0,0009) of an explicit VR little endian file: one value for each pixel, frame
 * after frame.
 *
 * The element is found by tag, VR and the length it must have; null where there is none.
 */
export function floatPixels(file: ArrayBuffer, count: number): Float32Array | null {
  return pixelsOf(file, count, SINGLE) ?? pixelsOf(file, count, DOUBLE);
}

function pixelsOf(file: ArrayBuffer, count: number, kind: Kind): Float32Array | null {
  const bytes = new Uint8Array(file);
  const view = new DataView(file);
  const size = kind.bytes * count;
  for (let at = bytes.length - size - HEADER_BYTES; at >= 0; at--) {
    if (bytes[at] === kind.start[0] && kind.start.every((byte, n) => bytes[at + n] === byte) && view.getUint32(at + 8, true) === size) {
      // A copy begins where an array of floats may begin, and lets the file go.
      return kind.read(file.slice(at + HEADER_BYTES, at + HEADER_BYTES + size));
    }
  }
  return null;
}
