import { describe, expect, it } from 'vitest';

import { classesOf, decisionsOf, gridOf, valuesOf, wire } from '../testing/wire';
import { CalciumCore, STANDARD_RULE } from './core';
import { decide } from './decisions';
import { voxelVolumeMm3 } from './grid';
import { Superseded } from './islands';
import { lesionAt } from './lesions';
import { maskRuns, pixelsOf } from './runs';
import { scoresOf } from './scores';

const close = (value: number) => expect.closeTo(value, Math.max(0, 11 - Math.ceil(Math.log10(Math.abs(value) + 1)))) as number;

describe.each(wire.cases)('$name', one => {
  const grid = gridOf(one);
  const core = new CalciumCore(
    { values: valuesOf(one), classes: classesOf(one), grid }, { ...STANDARD_RULE, minAreaMm2: one.min_area_mm2 },
  );
  const added = one.added.map(([k, j, i]) => ({ k, j, i }));
  const result = core.compute({ thresholdHu: one.threshold_hu, added });
  const decided = decide(result.lesions, result.runs, decisionsOf(one), one.shape);

  it('has the lesions that the server finds, in its order', () => {
    expect(
      decided.map(lesion => ({
        id: lesion.id, class: lesion.regionClass, voxels: lesion.voxels, score: lesion.score, volume_mm3: lesion.volumeMm3,
        peak_hu: lesion.peakHu, peak: [lesion.peak.k, lesion.peak.j, lesion.peak.i], total_hu: lesion.totalHu,
        center_mm: [...lesion.centerMm], counted: lesion.counted, vessel: lesion.vessel,
        slices: lesion.slices.map(part => ({
          k: part.k, row: part.row, column: part.column, area_mm2: part.areaMm2, peak_hu: part.peakHu, weight: part.weight, score: part.score,
        })),
      })),
    ).toEqual(
      one.expected.lesions.map(lesion => ({
        ...lesion, score: close(lesion.score), volume_mm3: close(lesion.volume_mm3), total_hu: close(lesion.total_hu),
        center_mm: lesion.center_mm.map(close),
        slices: lesion.slices.map(part => ({
          ...part, row: close(part.row), column: close(part.column), area_mm2: close(part.area_mm2), score: close(part.score),
        })),
      })),
    );
  });

  it('has the scores and categories of the server, and those worked out on paper', () => {
    const scores = scoresOf(decided, grid, one.threshold_hu, one.mass_factor, voxelVolumeMm3(grid.affine));
    const expected = one.expected.scores;
    expect(scores).toEqual({
      ...expected, agatston: close(expected.agatston), agatston_by_spacing: close(expected.agatston_by_spacing),
      volume_mm3: close(expected.volume_mm3), mass_mg: expected.mass_mg === null ? null : close(expected.mass_mg),
      vessels: Object.fromEntries(
        Object.entries(expected.vessels).map(([vessel, own]) => [
          vessel, { ...own, agatston: close(own.agatston), volume_mm3: close(own.volume_mm3) },
        ]),
      ),
    });
    for (const [name, value] of Object.entries(one.paper)) {
      const found = scores[name as keyof typeof scores];
      const plain = found !== null && typeof found === 'object' && 'value' in found ? found.value : found;
      expect(plain, name).toEqual(typeof value === 'number' ? close(value) : value);
    }
  });

  it('has the runs of the server', () => {
    const mask = maskRuns(result.runs, decided, grid.sopInstanceUids);
    expect(mask).toEqual(one.expected.mask.map(({ k, vessel, runs }) => ({ sop_instance_uid: `1.2.${k}`, vessel, runs })));
    const voxels = decided.filter(lesion => lesion.counted).reduce((sum, lesion) => sum + lesion.voxels, 0);
    expect(mask.reduce((sum, { runs }) => sum + pixelsOf(runs, one.shape[1] * one.shape[2]).length, 0)).toBe(voxels);
  });

  it('refuses the clicks that the server would', () => {
    expect(result.refused).toEqual(one.expected.refused);
  });

  it('shows in each slice alone what the whole shows there', () => {
    for (let k = 0; k < one.shape[0]; k++) {
      const slice = core.slice(k, one.threshold_hu);
      const seen = new Map<number, number>();
      for (let n = 0; n < slice.start.length; n++) {
        for (let at = slice.start[n]!; at < slice.stop[n]!; at++) seen.set(at, slice.regionClass[n]!);
      }
      for (let at = 0; at < one.shape[1] * one.shape[2]; at++) {
        const lesion = result.lesions[lesionAt(result.runs, k, at)];
        if (lesion?.regionClass !== 3) expect(seen.get(at)).toBe(lesion?.regionClass);
      }
    }
  });
});

describe('a request', () => {
  const one = wire.cases[0]!;
  const core = new CalciumCore({ values: valuesOf(one), classes: null, grid: gridOf(one) });

  it.each(wire.bad_thresholds_hu)('at %s HU is refused: nothing is listed there', thresholdHu => {
    expect(() => core.compute({ thresholdHu, added: [] })).toThrow('threshold');
    expect(() => core.slice(0, thresholdHu)).toThrow('threshold');
  });

  it('ends at the next slice when a newer one has come', () => {
    let slices = 0;
    expect(() => core.compute({ thresholdHu: 130, added: [] }, () => ++slices > 1)).toThrow(Superseded);
    expect(slices).toBe(2);
  });

  it('of a value outside of the volume gets no number', () => {
    expect(core.valuesAt([{ k: 0, j: 1, i: 2 }, { k: 9, j: 0, i: 0 }])).toEqual([400, Number.NaN]);
  });
});

describe('a click', () => {
  const one = wire.cases.find(each => each.name.startsWith('a lesion that was missed'))!;
  const core = new CalciumCore(
    { values: valuesOf(one), classes: classesOf(one), grid: gridOf(one) }, { ...STANDARD_RULE, minAreaMm2: one.min_area_mm2 },
  );

  it('on a missed lesion gives its peak', () => {
    expect(core.add({ k: 1, j: 2, i: 2 }, 130)).toEqual({ peak: { k: 2, j: 3, i: 4 }, peakHu: 260 });
  });

  it.each([
    [{ k: 0, j: 10, i: 5 }, 'too_long'],
    [{ k: 1, j: 20, i: 20 }, 'too_small'],
    [{ k: 3, j: 0, i: 0 }, 'below_threshold'],
    [{ k: 1, j: 6, i: 23 }, 'in_region'],
    [{ k: 0.5, j: 6, i: 23 }, 'outside_volume'],
  ])('on %j adds nothing: %s', (voxel, refused) => {
    expect(core.add(voxel, 130)).toEqual({ refused });
  });
});
