import { describe, expect, it } from 'vitest';
import { REGION, SET_ASIDE } from '../../../extension-compute/src/calcium/candidates';
import type { DecidedLesion, Decision } from '../../../extension-compute/src/calcium/decisions';
import { addedDecision, addedPlaces, begin, differs, forDraft, fromDraft, reduce, type Action, type Edit, type Reading } from './state';

const decision = (id: string, counted = true): Decision => ({
  id,
  trackingUid: `2.25.${id.charCodeAt(0)}`,
  counted,
  vessel: 'unassigned',
  verdict: 'accept',
  reason: '',
  note: '',
  anchor: { k: 1, j: 2, i: 3 },
  anchorHu: 400,
});

const lesion = (id: string, given: Decision | null = decision(id, !id.startsWith('S'))): DecidedLesion => ({
  regionClass: id.startsWith('S') ? SET_ASIDE : REGION,
  key: id,
  centerMm: [0, 0, 0],
  voxels: 4,
  volumeMm3: 4,
  peakHu: 400,
  peak: { k: 1, j: 2, i: 3 },
  totalHu: 1600,
  score: 16,
  slices: [],
  id,
  counted: given?.counted ?? true,
  vessel: given?.vessel ?? 'unassigned',
  decision: given,
});

const proposal: Edit = { thresholdHu: 130, decisions: [decision('L1'), decision('L2'), decision('S1', false)], areas: [] };
const after = (...actions: Action[]): Reading => actions.reduce(reduce, begin(proposal));
const of = (reading: Reading, id: string) => reading.now.decisions.find((each) => each.id === id);

describe('a reading', () => {
  it('begins as the AI proposes', () => {
    expect(after().now).toBe(proposal);
    expect(differs(after().now, proposal)).toBe(false);
  });

  it('says reject of a lesion that is taken out, and accept again when it is put back', () => {
    const out = after({ type: 'decide', lesion: lesion('L1'), change: { counted: false, reason: 'bone' } });
    expect(of(out, 'L1')).toMatchObject({ counted: false, verdict: 'reject', reason: 'bone' });
    const back = reduce(out, { type: 'decide', lesion: lesion('L1'), change: { counted: true } });
    expect(of(back, 'L1')).toMatchObject({ counted: true, verdict: 'accept', reason: '' });
    expect(differs(back.now, proposal)).toBe(false);
  });

  it('says modify of a lesion in another vessel and of one that the AI had set aside', () => {
    const reading = after(
      { type: 'decide', lesion: lesion('L2'), change: { vessel: 'LAD' } },
      { type: 'decide', lesion: lesion('S1'), change: { counted: true } },
    );
    expect(of(reading, 'L2')?.verdict).toBe('modify');
    expect(of(reading, 'S1')?.verdict).toBe('modify');
  });

  it('keeps the id and place of a lesion that came up at another threshold once it is decided on', () => {
    const reading = after({ type: 'decide', lesion: lesion('L9', null), change: { counted: false } });
    expect(of(reading, 'L9')).toMatchObject({ trackingUid: '', verdict: 'reject', anchor: { k: 1, j: 2, i: 3 } });
  });

  it('adds a lesion of the reader, counted and called missed', () => {
    const peak = { k: 0, j: 1, i: 2 };
    const reading = after({ type: 'add', decision: addedDecision('R1', peak, 250) });
    expect(addedPlaces(reading.now)).toEqual([peak]);
    expect(of(reading, 'R1')).toMatchObject({ counted: true, reason: 'missed', verdict: 'modify' });
    expect(differs(reading.now, proposal)).toBe(true);
    expect(reduce(reading, { type: 'undo' }).now).toBe(proposal);
  });

  it('keeps the threshold within the slider, in whole HU', () => {
    expect(after({ type: 'threshold', hu: 20 }).now.thresholdHu).toBe(50);
    expect(after({ type: 'threshold', hu: 900 }).now.thresholdHu).toBe(300);
    expect(after({ type: 'threshold', hu: 151.4 }).now.thresholdHu).toBe(151);
    expect(after({ type: 'threshold', hu: Number.NaN }).now).toBe(proposal);
  });

  it('takes one drag back as one step', () => {
    const dragged = after(
      { type: 'threshold', hu: 140, gesture: 'drag 1' },
      { type: 'threshold', hu: 150, gesture: 'drag 1' },
      { type: 'threshold', hu: 160, gesture: 'drag 2' },
    );
    expect(reduce(dragged, { type: 'undo' }).now.thresholdHu).toBe(150);
    expect(reduce(reduce(dragged, { type: 'undo' }), { type: 'undo' }).now.thresholdHu).toBe(130);
  });

  it('goes back and forth through what was done, and forgets the future when something new is done', () => {
    const one = after({ type: 'threshold', hu: 150 }, { type: 'decide', lesion: lesion('L1'), change: { counted: false } });
    const undone = reduce(one, { type: 'undo' });
    expect(of(undone, 'L1')?.counted).toBe(true);
    expect(of(reduce(undone, { type: 'redo' }), 'L1')?.counted).toBe(false);
    const other = reduce(undone, { type: 'threshold', hu: 200 });
    expect(reduce(other, { type: 'redo' })).toBe(other);
    expect(reduce(begin(proposal), { type: 'undo' }).now).toBe(proposal);
  });

  it("returns to the AI's proposal in one step that can be undone", () => {
    const changed = after({ type: 'threshold', hu: 150 }, { type: 'decide', lesion: lesion('L1'), change: { counted: false } });
    const back = reduce(changed, { type: 'back' });
    expect(back.now).toBe(proposal);
    expect(reduce(back, { type: 'undo' }).now).toBe(changed.now);
  });

  it('leaves no step behind where nothing changed', () => {
    expect(after({ type: 'decide', lesion: lesion('L1'), change: { vessel: 'unassigned' } }).past).toEqual([]);
    expect(after({ type: 'threshold', hu: 130 }).past).toEqual([]);
    expect(after({ type: 'back' }).past).toEqual([]);
  });

  it('remembers the voxels of what was decided on, also through undo and redo', () => {
    const out = after({ type: 'decide', lesion: lesion('L1'), change: { counted: false, reason: 'bone' }, voxels: [5, 3, 9, 1] });
    expect(out.now.areas).toEqual([{ id: 'L1', counted: false, vessel: 'unassigned', reason: 'bone', note: '', runs: [5, 3, 9, 1] }]);
    const undone = reduce(out, { type: 'undo' });
    expect(undone.now.areas).toEqual([]);
    expect(reduce(undone, { type: 'redo' }).now).toBe(out.now);
    const smaller = reduce(out, { type: 'decide', lesion: lesion('L1'), change: { counted: true }, voxels: [5, 2] });
    expect(smaller.now.areas.map((area) => [area.counted, area.runs.length])).toEqual([[false, 4], [true, 2]]);
  });

  it('makes a decision of its own of a part that changes, from what held for the whole', () => {
    const part = lesion('L7', { ...decision('L7', false), trackingUid: '', reason: 'bone', note: 'rib' });
    const reading = after({ type: 'decide', lesion: part, change: { vessel: 'RCA' }, voxels: [5, 1] });
    expect(of(reading, 'L7')).toMatchObject({ counted: false, vessel: 'RCA', reason: 'bone', note: 'rib', verdict: 'reject' });
    expect(after({ type: 'decide', lesion: part, change: { note: 'rib' } }).past).toEqual([]);
  });

  it('is kept as a draft without what the proposal brings, and comes back the same', () => {
    const area = { id: 'L1', counted: true, vessel: 'unassigned', reason: '', note: '', runs: [1, 9] } as const;
    const proposed: Edit = { ...proposal, areas: [area] };
    const reading = reduce(begin(proposed), { type: 'decide', lesion: lesion('L1'), change: { counted: false }, voxels: [2, 3] });
    const draft = JSON.parse(JSON.stringify(forDraft(reading.now, proposed))) as Edit;
    expect(draft.areas).toHaveLength(1);
    expect(fromDraft(draft, proposed)).toEqual(reading.now);
    const { areas, ...older } = draft;
    expect(areas).toHaveLength(1);
    expect(fromDraft(older, proposed).areas).toEqual([area]);
  });

  it('knows what was saved from what was not', () => {
    const changed = after({ type: 'threshold', hu: 150 });
    expect(differs(changed.now, changed.saved)).toBe(true);
    const saved = reduce(changed, { type: 'saved', edit: changed.now });
    expect(differs(saved.now, saved.saved)).toBe(false);
    expect(differs(saved.now, saved.proposal)).toBe(true);
  });
});
