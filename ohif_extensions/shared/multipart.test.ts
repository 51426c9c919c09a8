import { expect, it } from 'vitest';
import { onlyPart } from './multipart';

const bytes = (text: string) => Uint8Array.from(text, (letter) => letter.charCodeAt(0));
const answer = '--b1\r\nContent-Type: application/dicom\r\n\r\nDICM\r\n\r\n--x\0\xff\r\n--b1--\r\n';

it('gives the bytes between the headers and the closing boundary', () => {
  const part = onlyPart(bytes(answer), 'multipart/related; type="application/dicom"; boundary="b1"');
  expect(new Uint8Array(part ?? new ArrayBuffer(0))).toEqual(bytes('DICM\r\n\r\n--x\0\xff'));
});

it.each([
  [answer, 'application/json'],
  [answer, 'multipart/related; boundary=other'],
  ['--b1\r\nno end of headers', 'multipart/related; boundary=b1'],
  ['', 'multipart/related; boundary=b1'],
])('gives nothing of what is no such answer', (text, type) => {
  expect(onlyPart(bytes(text), type)).toBeNull();
});
