import { expect, it } from 'vitest';

import { appearanceOf, remember, windowOf } from './appearance';

it('spans from nothing to the highest values, whatever lies outside', () => {
  const values = Float32Array.from({ length: 1000 }, (_, n) => n / 10);
  values[999] = 1e6;
  const [low, high] = windowOf(values);
  expect(low).toBe(0);
  expect(high).toBeCloseTo(98, 0);
});

it('keeps negative values in sight and undefined ones out', () => {
  const [low, high] = windowOf(Float32Array.from([-5, -5, NaN, 3, 3]));
  expect([low, high]).toEqual([-5, 3]);
});

it('spans something also where there is nothing', () => {
  expect(windowOf(new Float32Array(8))).toEqual([0, 1]);
  expect(windowOf(new Float32Array(0))).toEqual([0, 1]);
});

it('looks as its result says, else hot', () => {
  expect(appearanceOf('1.2')).toEqual({ window: null, colors: 'HOT_IRON' });
  remember('1.2', { window: [0, 60], colors: 'PET' });
  expect(appearanceOf('1.2').window).toEqual([0, 60]);
});
