import { expect, it } from 'vitest';

import { wholeNumbers } from './whole_numbers';

it('keeps values within a 64,000th of their range', () => {
  const values = Float32Array.from([-3, 0, 0.25, 7.5, 61]);
  const { scalarData, slope, intercept } = wholeNumbers(values);
  expect(scalarData).toBeInstanceOf(Int16Array);
  values.forEach((value, n) => expect(Math.abs((scalarData[n] ?? NaN) * slope + intercept - value)).toBeLessThanOrEqual(64 / 64_000));
});

it('keeps a map of one value, and one of none', () => {
  expect(wholeNumbers(Float32Array.from([5, 5]))).toEqual({ scalarData: new Int16Array(2), slope: 1, intercept: 5 });
  expect(wholeNumbers(new Float32Array(0)).intercept).toBe(0);
});
