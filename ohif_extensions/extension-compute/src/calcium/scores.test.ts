import { describe, expect, it } from 'vitest';

import { cacDrs, densityWeight, exactSum, leastPixels, rumberger, stepsFor } from './scores';

describe('an exact sum', () => {
  it.each([
    [[], 0],
    [[0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1, 0.1], 1],
    [[1e100, 1, -1e100], 1],
    [[1e16, 1, 1e-16], 10000000000000002],
    [[1, 1e-17, -1], 1e-17],
  ])('of %j is %d', (numbers, sum) => {
    expect(exactSum(numbers)).toBe(sum);
    expect(exactSum([...numbers].reverse())).toBe(sum);
  });
});

describe('weights', () => {
  it.each([
    [129, 130, 0], [130, 130, 1], [199.9, 130, 1], [200, 130, 2], [300, 130, 3], [400, 130, 4],
    [60, 50, 1], [199, 50, 1], [200, 50, 2], [249, 250, 0], [250, 250, 2], [Number.NaN, 50, 0],
  ])('of a peak of %d HU at a threshold of %d HU', (peak, low, weight) => {
    expect(densityWeight(peak, stepsFor(low))).toBe(weight);
  });
});

it.each([[1, 0.01, 100], [1, 0.25, 4], [1, 0.3, 4], [1, 2, 1], [0, 1, 1]])('%d mm2 of pixels of %d mm2 are %d', (area, pixel, pixels) => {
  expect(leastPixels(area, pixel)).toBe(pixels);
});

it('names categories as the server does', () => {
  expect([0, 0.5, 99.9, 100, 299.9, 300].map(score => cacDrs(score, 2).value)).toEqual(['A0', 'A1/N2', 'A1/N2', 'A2/N2', 'A2/N2', 'A3/N2']);
  expect(cacDrs(5, null)).toEqual({ value: 'A1', scheme: '99RADLOOP', meaning: 'A1: score 1 to 99' });
  expect([0, 10, 10.1, 100.1, 400, 400.1].map(score => rumberger(score).value)).toEqual(['0', '1-10', '11-100', '101-400', '101-400', '>400']);
});
