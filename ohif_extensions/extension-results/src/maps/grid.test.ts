import { expect, it } from 'vitest';

import { gridFor } from './grid';

it('lays pictures out wider than high, with room for all', () => {
  expect(gridFor(6)).toEqual({ numRows: 2, numCols: 3 });
  expect(gridFor(5)).toEqual({ numRows: 2, numCols: 3 });
  expect(gridFor(2)).toEqual({ numRows: 1, numCols: 2 });
  expect(gridFor(1)).toEqual({ numRows: 1, numCols: 1 });
  expect(gridFor(0)).toEqual({ numRows: 1, numCols: 1 });
});
