import { expect, it } from 'vitest';

import { floatPixels } from './float_pixels';

/** What stands before, the element, what stands behind. */
function file(before: number, values: number[], after: number): ArrayBuffer {
  const bytes = new Uint8Array(before + 12 + 4 * values.length + after);
  bytes.set([0xe0, 0x7f, 0x08, 0x00, 0x4f, 0x46, 0, 0], before);
  const view = new DataView(bytes.buffer);
  view.setUint32(before + 8, 4 * values.length, true);
  values.forEach((value, n) => view.setFloat32(before + 12 + 4 * n, value, true));
  return bytes.buffer;
}

it('finds the values wherever they begin', () => {
  for (const before of [0, 1, 2, 3, 131]) {
    expect([...(floatPixels(file(before, [1.5, -2, 0.25], 0), 3) ?? [])]).toEqual([1.5, -2, 0.25]);
  }
});

it('finds them before trailing elements', () => {
  expect([...(floatPixels(file(40, [7, 8], 24), 2) ?? [])]).toEqual([7, 8]);
});

it('gives nothing where the length is another than the frames need', () => {
  expect(floatPixels(file(40, [7, 8], 0), 3)).toBeNull();
  expect(floatPixels(new ArrayBuffer(5), 3)).toBeNull();
});

it('reads doubles as well, to seven digits', () => {
  const bytes = new Uint8Array(5 + 12 + 16);
  bytes.set([0xe0, 0x7f, 0x09, 0x00, 0x4f, 0x44, 0, 0], 5);
  const view = new DataView(bytes.buffer);
  view.setUint32(5 + 8, 16, true);
  view.setFloat64(5 + 12, 0.1, true);
  view.setFloat64(5 + 20, -2, true);
  expect([...(floatPixels(bytes.buffer, 2) ?? [])]).toEqual([Math.fround(0.1), -2]);
});
