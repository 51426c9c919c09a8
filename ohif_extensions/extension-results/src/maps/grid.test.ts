import { metaData } from '@cornerstonejs/core';
import { describe, expect, it } from 'vitest';

import { inSpace } from '../../../shared/viewer/plane';
import { gridFor, indexAt } from './grid';

it('lays pictures out wider than high, with room for all', () => {
  expect(gridFor(6)).toEqual({ numRows: 2, numCols: 3 });
  expect(gridFor(5)).toEqual({ numRows: 2, numCols: 3 });
  expect(gridFor(2)).toEqual({ numRows: 1, numCols: 2 });
  expect(gridFor(1)).toEqual({ numRows: 1, numCols: 1 });
  expect(gridFor(0)).toEqual({ numRows: 1, numCols: 1 });
  expect(gridFor(6, true)).toEqual({ numRows: 3, numCols: 2 });
});

describe('images of a place', () => {
  const planes: Record<string, object> = {};
  const stack = (name: string, heights: readonly number[]): string[] =>
    heights.map((z, n) => {
      planes[`${name}${n}`] = { imagePositionPatient: [1, 2, z], imageOrientationPatient: [1, 0, 0, 0, 1, 0] };
      return `${name}${n}`;
    });
  Object.assign(metaData, { get: (_: string, imageId: string) => planes[imageId] });

  it('stand in the order of maps, from low to high along the normal', () => {
    expect(inSpace(stack('d', [10, 0, 5]))).toEqual(['d1', 'd2', 'd0']);
    expect(inSpace(['x', 'y'])).toEqual(['x', 'y']);
  });

  it('open at the nearest slice', () => {
    expect(indexAt(stack('e', [0, 5, 10]), [1, 2, 6])).toBe(1);
  });
});
