import { describe, expect, it } from 'vitest';

import type { Affine, Point } from './calcium/grid';
import { normal, pixelAreaMm2, sameGrid, sliceSpacingMm, toIndex, toPatientMm } from './calcium/grid';
import type { LesionRuns } from './calcium/lesions';
import { lesionAt } from './calcium/lesions';
import { axisAcross, edgeCount, labelPatch, outlines, placing, sectionThrough, voxelAt } from './section';

const SHAPE = [3, 6, 8] as const;
const AFFINE: Affine = [[0, 0, 0.5, -10], [0, 0.7, 0, -20], [2, 0, 0, 30], [0, 0, 0, 1]];
const TILTED: Affine = [[0, 0, 0.5, -10], [0.6, 0.7, 0, -20], [2, 0, 0, 30], [0, 0, 0, 1]];
const GRID = { affine: AFFINE, shape: SHAPE };

// Lesion 0: two rows in slices 0 and 1; lesion 1: one pixel in slice 1.
const RUNS: LesionRuns = {
  sliceStart: Uint32Array.of(0, 2, 4, 4),
  start: Uint32Array.of(10, 18, 10, 39),
  stop: Uint32Array.of(12, 20, 13, 40),
  lesion: Int32Array.of(0, 0, 0, 1),
};

describe('a grid', () => {
  it('measures across its planes, also when they are sheared', () => {
    expect(pixelAreaMm2(TILTED)).toBeCloseTo(0.35, 12);
    expect(sliceSpacingMm(TILTED)).toBeCloseTo(2, 12);
    expect(normal(TILTED)).toEqual([0, 0, 1].map(value => expect.closeTo(value, 12) as number));
  });

  it('finds a point where it put it', () => {
    for (const affine of [AFFINE, TILTED]) {
      const back = toIndex(affine, toPatientMm(affine, 1.25, 3.5, 6));
      expect(back).toEqual([1.25, 3.5, 6].map(value => expect.closeTo(value, 9) as number));
    }
  });

  it('is another one when a corner moves', () => {
    const moved = AFFINE.map((row, n) => (n === 2 ? [2.01, 0, 0, 30] : row));
    expect([sameGrid(AFFINE, AFFINE, SHAPE), sameGrid(AFFINE, moved, SHAPE)]).toEqual([true, false]);
  });
});

describe('a section', () => {
  it.each([
    [[0, 0, 1], 0],
    [[0, 0, -3], 0],
    [[0, 1, 0], 1],
    [[-1, 0, 0], 2],
    [[0, 0.1, 0.995], null],
  ] as const)('seen along %j is across axis %j', (view, axis) => {
    expect(axisAcross(AFFINE, view as Point)).toBe(axis);
  });

  it('lies where a point is, or nowhere', () => {
    expect(sectionThrough(GRID, 0, [0, 0, 31.9])).toEqual({ axis: 0, index: 1 });
    expect(sectionThrough(GRID, 1, [0, -18, 0])).toEqual({ axis: 1, index: 3 });
    expect(sectionThrough(GRID, 0, [0, 0, 40])).toBeNull();
  });

  it('shows the same voxels from all sides', () => {
    for (let k = 0; k < SHAPE[0]; k++) {
      for (let j = 0; j < SHAPE[1]; j++) {
        for (let i = 0; i < SHAPE[2]; i++) {
          const wanted = lesionAt(RUNS, k, j * SHAPE[2] + i) + 1;
          for (const [axis, index, down, across] of [[0, k, j, i], [1, j, k, i], [2, i, k, j]] as const) {
            const patch = labelPatch(RUNS, SHAPE, { axis, index });
            const [row, column] = patch === null ? [-1, -1] : [down - patch.top, across - patch.left];
            const inside = patch !== null && row >= 0 && row < patch.rows && column >= 0 && column < patch.columns;
            expect(inside ? patch.labels[row * patch.columns + column] : 0).toBe(wanted);
          }
        }
      }
    }
  });

  it('has no patch where nothing is', () => {
    expect(labelPatch(RUNS, SHAPE, { axis: 0, index: 2 })).toBeNull();
  });

  it('outlines each lesion once around, with joined lines', () => {
    const patch = labelPatch(RUNS, SHAPE, { axis: 0, index: 0 })!;
    const lines = outlines(patch);
    expect([...lines.keys()]).toEqual([1]);
    // Two by two pixels: four lines of two.
    expect(lines.get(1)).toHaveLength(16);
    const own = lines.get(1)!;
    let length = 0;
    for (let n = 0; n < own.length; n += 4) length += Math.abs(own[n + 2]! - own[n]!) + Math.abs(own[n + 3]! - own[n + 1]!);
    expect(length).toBe(8);
    expect(Math.min(...own)).toBe(1);
    expect(outlines(patch, () => false).size).toBe(0);
    expect(edgeCount(patch)).toBe(0);
  });

  it('draws two lesions that touch with a line of each', () => {
    const lines = outlines({ top: 0, left: 0, rows: 1, columns: 2, labels: Int32Array.of(1, 2) });
    expect(lines.get(1)).toEqual(expect.arrayContaining([1, 0, 1, 1]));
    expect(lines.get(2)).toEqual(expect.arrayContaining([1, 0, 1, 1]));
  });

  it('places corners of pixels half a pixel before their centres', () => {
    const at = placing(GRID, { axis: 0, index: 1 }, ([x, y]) => [10 * x, 10 * y]);
    expect(at.across).toEqual([expect.closeTo(5, 9), expect.closeTo(0, 9)]);
    expect(at.down).toEqual([expect.closeTo(0, 9), expect.closeTo(7, 9)]);
    expect(at.origin).toEqual([expect.closeTo(-102.5, 9), expect.closeTo(-203.5, 9)]);
  });

  it('finds the voxel of a point, and none beside the volume', () => {
    const section = { axis: 0, index: 1 } as const;
    expect(voxelAt(GRID, section, [-8.1, -18, 99])).toEqual({ k: 1, j: 3, i: 4 });
    expect(voxelAt(GRID, section, [-10.4, -20, 0])).toBeNull();
  });
});
