import { describe, expect, it } from 'vitest';

import { classesOf, gridOf, valuesOf, wire } from '../testing/wire';
import { CalciumCore } from './core';
import type { Decision } from './decisions';
import { decide, fromFindings, fromWire, nextAddedId, toWire } from './decisions';

const one = wire.cases.find(each => each.name === 'set aside and yet counted')!;
const grid = gridOf(one);
const core = new CalciumCore({ values: valuesOf(one), classes: classesOf(one), grid });
const result = core.compute({ thresholdHu: 130, added: [] });

const code = (value: string) => ({ value, scheme: 'SCT', meaning: '' });
const totals = result.lesions.map((lesion, n) => ({
  id: lesion.regionClass === 2 ? `S${n}` : `L${n + 1}`,
  vessel: code(lesion.regionClass === 2 ? '41801008' : '59438005'), center_mm: [...lesion.centerMm] as [number, number, number],
  volume_mm3: lesion.volumeMm3, peak_hu: lesion.peakHu, score: lesion.score, slices: lesion.slices.map(part => part.k),
  tracking: '', tracking_uid: `2.25.${n}`, counted: lesion.regionClass !== 2, reason: null,
}));

describe('what the analysis decided', () => {
  it('is anchored at the peaks of its lesions', () => {
    const { decisions, missing } = fromFindings(totals, result.lesions, grid);
    expect(missing).toEqual([]);
    expect(decisions.map(({ id, counted, vessel, anchorHu }) => ({ id, counted, vessel, anchorHu }))).toEqual([
      { id: 'L1', counted: true, vessel: 'LAD', anchorHu: 350 }, { id: 'S1', counted: false, vessel: 'unassigned', anchorHu: 420 },
    ]);
    const lesions = decide(result.lesions, result.runs, decisions, grid.shape);
    expect(lesions.map(({ id, counted, vessel }) => [id, counted, vessel])).toEqual([['L1', true, 'LAD'], ['S1', false, 'unassigned']]);
  });

  it.each([
    ['another volume', { volume_mm3: 1 }],
    ['another place', { center_mm: [0, 0, 0] as [number, number, number] }],
    ['another class', { counted: false }],
  ])('is missing where a lesion has %s', (_, change) => {
    expect(fromFindings([{ ...totals[0]!, ...change }], result.lesions, grid)).toEqual({ decisions: [], missing: ['L1'] });
  });
});

describe('a decision', () => {
  const decision: Decision = {
    id: 'R3', trackingUid: '', counted: true, vessel: 'RCA', verdict: 'modify', reason: 'missed', note: 'x', anchor: { k: 1, j: 2, i: 3 }, anchorHu: 140,
  };

  it('is the same after it was sent', () => {
    const sent = toWire(decision, grid.sopInstanceUids);
    expect(sent.anchor).toEqual({ sop_instance_uid: '1.2.1', row: 2, column: 3 });
    expect(fromWire(sent, grid, voxel => core.valuesAt([voxel])[0]!)).toEqual({ ...decision, anchorHu: 40 });
  });

  it('of another image, or beside it, is none of this volume', () => {
    const sent = toWire(decision, grid.sopInstanceUids);
    expect(fromWire({ ...sent, anchor: { ...sent.anchor, sop_instance_uid: '9.9' } }, grid, () => 0)).toBeNull();
    expect(fromWire({ ...sent, anchor: { ...sent.anchor, column: 999 } }, grid, () => 0)).toBeNull();
  });

  it('gives the next added lesion the next number', () => {
    expect([nextAddedId([]), nextAddedId([decision]), nextAddedId([{ ...decision, id: 'L9' }])]).toEqual(['R1', 'R4', 'R1']);
  });

  it('without a lesion takes no number from others', () => {
    const lesions = decide(result.lesions, result.runs, [{ ...decision, id: 'L7', anchor: { k: 0, j: 0, i: 0 } }], grid.shape);
    expect(lesions.map(lesion => lesion.id)).toEqual(['L8', 'S1']);
  });
});
