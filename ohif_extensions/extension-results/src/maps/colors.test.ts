import { expect, it } from 'vitest';

import { colorsOfViewer, pointsOf, rampOf } from './colors';

it('gives positions and channels between 0 and 1, rising from black to white', () => {
  for (const name of ['HOT_IRON', 'PET', 'HOT_METAL_BLUE']) {
    const points = pointsOf(name);
    expect(points.slice(0, 4)).toEqual([0, 0, 0, 0]);
    expect(points.slice(-4)).toEqual([1, 1, 1, 1]);
    expect(points.every(one => one >= 0 && one <= 1)).toBe(true);
    const positions = points.filter((_, n) => n % 4 === 0);
    expect([...positions].sort((a, b) => a - b)).toEqual(positions);
  }
});

it('shows a map of another name in hot iron', () => {
  expect(colorsOfViewer('PET')).toBe('radloop PET');
  expect(colorsOfViewer('VIRIDIS')).toBe('radloop HOT_IRON');
  expect(rampOf('VIRIDIS')).toBe(rampOf('HOT_IRON'));
  expect(rampOf('HOT_IRON')).toContain('#ff0000 50.2%');
});
