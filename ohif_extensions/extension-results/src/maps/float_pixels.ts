// The values of a parametric map, taken out of its file.

const TAG = [0xe0, 0x7f, 0x08, 0x00, 0x4f, 0x46, 0x00, 0x00];
const HEADER_BYTES = 12;

/**
 * Float Pixel Data (7FE0,0008) of an explicit VR little endian file: one value for each pixel, frame after frame.
 *
 * Its element is found by tag, VR and the length it must have; null where there is none.
 */
export function floatPixels(file: ArrayBuffer, count: number): Float32Array | null {
  const bytes = new Uint8Array(file);
  const view = new DataView(file);
  const size = 4 * count;
  for (let at = bytes.length - size - HEADER_BYTES; at >= 0; at--) {
    if (bytes[at] === TAG[0] && TAG.every((byte, n) => bytes[at + n] === byte) && view.getUint32(at + 8, true) === size) {
      // A copy begins where a Float32Array may begin, and lets the file go.
      return new Float32Array(file.slice(at + HEADER_BYTES, at + HEADER_BYTES + size));
    }
  }
  return null;
}
