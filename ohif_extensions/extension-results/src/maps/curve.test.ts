import { expect, it } from 'vitest';

import { chartOf } from './curve';

it('runs from the first time to the last and from nothing to the peak', () => {
  expect(chartOf([2, 4, 6], [0, 10, 5], 100, 50)).toEqual({ line: '0,50 50,0 100,25', low: 0, high: 10, seconds: 4, zero: null });
});

it('keeps its times apart as they were', () => {
  expect(chartOf([0, 1, 4], [0, 0, 8], 40, 10).line).toBe('0,10 10,10 40,0');
});

it('draws the axis of no change where values fall below it', () => {
  expect(chartOf([0, 1], [-5, 5], 10, 10)).toMatchObject({ low: -5, high: 5, zero: 5 });
});

it('is flat, not broken, where nothing happens', () => {
  expect(chartOf([0, 1], [0, 0], 10, 10).line).toBe('0,10 10,10');
});
