import { describe, expect, it } from 'vitest';

import type { Vessel } from '../../../shared/types';
import { type Area, areaAt, voxelsOf, withArea } from './areas';
import { CalciumCore } from './core';
import { areaOf, areasOf, decide, type DecidedLesion, type Decision } from './decisions';
import type { Grid } from './grid';

/** Two slices of 1 mm pixels: peaks of 500 and 400 HU with 250 between them and 150 around, and a third of 350 that 150 joins to them. */
const LEVELS = [
  '........................',
  '.aaaaaaaaaaaaaaaaaaaaa..',
  '.addddbbbbccccaaaaeeee..',
  '.addddbbbbccccaaaaeeee..',
  '.aaaaaaaaaaaaaaaaaaaaa..',
  '........................',
];
const HU: Readonly<Record<string, number>> = { '.': 0, a: 150, b: 250, c: 400, d: 500, e: 350 };
const grid: Grid = {
  shape: [2, LEVELS.length, LEVELS[0]!.length], frameUid: '1.2.3', sopInstanceUids: ['1.2.0', '1.2.1'],
  affine: [[0, 0, 1, 0], [0, 1, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]],
};
const plane = LEVELS.flatMap(row => [...row].map(level => HU[level]!));
const core = new CalciumCore({ values: Int16Array.from([...plane.map(() => 0), ...plane]), classes: null, grid });

interface Said {
  decisions: Decision[];
  areas: Area[];
}

const at = (thresholdHu: number, { decisions, areas }: Said) => {
  const { lesions, runs } = core.compute({ thresholdHu, added: [] });
  return { runs, lesions: decide(lesions, runs, decisions, grid.shape, areas) };
};
const shown = (thresholdHu: number, said: Said) =>
  at(thresholdHu, said).lesions.map(({ peakHu, counted, vessel }) => [peakHu, counted, vessel]).sort((a, b) => Number(b[0]) - Number(a[0]));
const NOTHING: Said = { decisions: [], areas: [] };

/** What a reader says of the lesion with this peak at a threshold. */
function say(said: Said, thresholdHu: number, peakHu: number, counted: boolean, vessel: Vessel = 'unassigned'): Said {
  const { lesions, runs } = at(thresholdHu, said);
  const n = lesions.findIndex(lesion => lesion.peakHu === peakHu);
  const lesion: DecidedLesion = lesions[n]!;
  const { id, peak } = lesion;
  const former = said.decisions.find(each => each.id === id)?.anchor ?? peak;
  const decision: Decision = {
    id, trackingUid: '', counted, vessel, verdict: counted ? 'modify' : 'reject', reason: counted ? '' : 'bone', note: '', anchor: former,
    anchorHu: peakHu,
  };
  const voxels = voxelsOf(new Set([n]), runs, grid.shape).get(n)!;
  return { decisions: [...said.decisions.filter(each => each.id !== id), decision], areas: withArea(said.areas, areaOf(decision, voxels)) };
}

describe('a lesion that splits at a higher threshold', () => {
  it('does not count again in any part when it was taken out', () => {
    const out = say(NOTHING, 130, 500, false);
    expect(shown(130, out)).toEqual([[500, false, 'unassigned']]);
    expect(shown(200, out)).toEqual([[500, false, 'unassigned'], [350, false, 'unassigned']]);
    expect(shown(300, out)).toEqual([[500, false, 'unassigned'], [400, false, 'unassigned'], [350, false, 'unassigned']]);
  });

  it('keeps its vessel and reason in all parts, each with an id and an anchor of its own', () => {
    const parts = at(300, say(NOTHING, 130, 500, true, 'LAD')).lesions;
    expect(parts.map(part => part.vessel)).toEqual(['LAD', 'LAD', 'LAD']);
    expect(new Set(parts.map(part => part.id)).size).toBe(3);
    const out = at(300, say(NOTHING, 130, 500, false)).lesions;
    expect(out.map(part => [part.decision?.id, part.decision?.reason, part.decision?.anchor])).toEqual(
      out.map(part => [part.id, 'bone', part.peak]),
    );
  });

  it('is again what it was when the threshold goes back', () => {
    const out = say(NOTHING, 130, 500, false, 'RCA');
    shown(300, out);
    expect(shown(130, out)).toEqual([[500, false, 'RCA']]);
    expect(at(130, out).lesions[0]?.id).toBe('L1');
  });

  it('may have parts of which the reader says otherwise, and those parts have parts', () => {
    const out = say(say(NOTHING, 130, 500, false), 200, 350, true, 'RCA');
    expect(shown(200, out)).toEqual([[500, false, 'unassigned'], [350, true, 'RCA']]);
    expect(shown(300, out)).toEqual([[500, false, 'unassigned'], [400, false, 'unassigned'], [350, true, 'RCA']]);
    // Together again the highest anchor decides.
    expect(shown(130, out)).toEqual([[500, false, 'unassigned']]);
  });

  it('keeps the other parts out when the part with its anchor is taken in again', () => {
    const back = say(say(NOTHING, 130, 500, false), 200, 500, true, 'LAD');
    expect(shown(200, back)).toEqual([[500, true, 'LAD'], [350, false, 'unassigned']]);
    // What was said last of its own parts holds for them.
    expect(shown(300, back)).toEqual([[500, true, 'LAD'], [400, true, 'LAD'], [350, false, 'unassigned']]);
  });
});

describe('lesions that become one at a lower threshold', () => {
  it('take the decision of the highest anchor, and have their own back above', () => {
    const two = say(say(NOTHING, 300, 400, false), 300, 350, true, 'LCx');
    expect(shown(200, two)).toEqual([[500, false, 'unassigned'], [350, true, 'LCx']]);
    expect(shown(130, two)).toEqual([[500, false, 'unassigned']]);
    expect(shown(300, two)).toEqual([[500, true, 'unassigned'], [400, false, 'unassigned'], [350, true, 'LCx']]);
  });
});

describe('the voxels of a decision', () => {
  it('are remembered of decisions that came without them', () => {
    const { decisions } = say(NOTHING, 130, 500, false);
    const { runs } = core.compute({ thresholdHu: 130, added: [] });
    const areas = areasOf(decisions, runs, grid.shape);
    expect(areas).toEqual(say(NOTHING, 130, 500, false).areas);
    expect(areas[0]?.runs).toEqual([169, 21, 193, 21, 217, 21, 241, 21]);
    expect(areaAt(areas, { k: 1, j: 1, i: 1 }, grid.shape)?.id).toBe('L1');
    expect(areaAt(areas, { k: 1, j: 1, i: 22 }, grid.shape)).toBeNull();
    expect(areaAt(areas, { k: 0, j: 1, i: 1 }, grid.shape)).toBeNull();
  });

  it('are kept once, however often something is said of the same lesion', () => {
    let said = say(NOTHING, 300, 400, false);
    said = say(said, 130, 500, false);
    said = say(said, 130, 500, true, 'LM');
    expect(said.areas.map(({ counted, vessel }) => [counted, vessel])).toEqual([[true, 'LM']]);
    expect(say(said, 300, 350, false).areas).toHaveLength(2);
  });
});
