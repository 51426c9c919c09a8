import { describe, expect, it } from 'vitest';

import { wire } from '../testing/wire';
import { pixelsOf } from './runs';

const pixels = wire.bad_runs.shape[1] * wire.bad_runs.shape[2];

describe('runs', () => {
  it('are read as pixels, to the last one of the image', () => {
    expect([...pixelsOf([0, 2, 2, 1, 15, 1], pixels)]).toEqual([0, 1, 2, 15]);
    expect(pixelsOf([], pixels)).toHaveLength(0);
  });

  it.each(wire.bad_runs.runs)('are refused: $name', ({ runs, code }) => {
    expect(() => pixelsOf(runs, pixels)).toThrow(code);
  });
});
