/** What a reader has done to the AI's proposal so far: one value, changed by actions, undone step by step. */

import { type Area, withArea } from '../../../extension-compute/src/calcium/areas';
import { areaOf, type DecidedLesion, type Decision } from '../../../extension-compute/src/calcium/decisions';
import type { Voxel } from '../../../extension-compute/src/calcium/grid';
import { UNASSIGNED } from '../../../extension-compute/src/calcium/scores';
import type { Verdict, Vessel } from '../../../shared/types';

export interface Edit {
  readonly thresholdHu: number;
  readonly decisions: readonly Decision[];
  /** The voxels that were decided on, newest last: for the parts of a lesion that splits. */
  readonly areas: readonly Area[];
}

export interface Reading {
  /** What the AI proposes. */
  readonly proposal: Edit;
  readonly now: Edit;
  /** What was saved last by this reader; the proposal before that. */
  readonly saved: Edit;
  readonly past: readonly Edit[];
  readonly future: readonly Edit[];
  /** Changes of one gesture (a drag of the slider, a note being typed) are one step. */
  readonly gesture: string;
}

export type Change = Partial<Pick<Decision, 'counted' | 'vessel' | 'reason' | 'note'>>;

export type Action =
  | { readonly type: 'propose'; readonly proposal: Edit }
  | { readonly type: 'threshold'; readonly hu: number; readonly gesture?: string }
  | {
      readonly type: 'decide';
      readonly lesion: DecidedLesion;
      readonly change: Change;
      /** The lesion's voxels now, as an area's runs. */
      readonly voxels?: readonly number[];
      readonly gesture?: string;
    }
  | { readonly type: 'add'; readonly decision: Decision }
  | { readonly type: 'restore'; readonly edit: Edit; readonly saved: boolean }
  | { readonly type: 'saved'; readonly edit: Edit }
  | { readonly type: 'back' }
  | { readonly type: 'undo' }
  | { readonly type: 'redo' };

const LOWEST_HU = 50;
const HIGHEST_HU = 300;
const MOST_STEPS = 200;

/** A reading in which nothing was done yet. */
export function begin(proposal: Edit): Reading {
  return { proposal, now: proposal, saved: proposal, past: [], future: [], gesture: '' };
}

export function reduce(reading: Reading, action: Action): Reading {
  switch (action.type) {
    case 'propose':
      return begin(action.proposal);
    case 'threshold': {
      const thresholdHu = Math.round(Math.min(HIGHEST_HU, Math.max(LOWEST_HU, action.hu)));
      if (!Number.isFinite(thresholdHu) || thresholdHu === reading.now.thresholdHu) return reading;
      return step(reading, { ...reading.now, thresholdHu }, action.gesture);
    }
    case 'decide': {
      const decision = decided(reading, action.lesion, action.change);
      return decision === null ? reading : step(reading, withDecision(reading.now, decision, action.voxels), action.gesture);
    }
    case 'add':
      return step(reading, { ...reading.now, decisions: [...reading.now.decisions, action.decision] });
    case 'restore': {
      const restored = step(reading, action.edit);
      return action.saved ? { ...restored, saved: action.edit } : restored;
    }
    case 'saved':
      return { ...reading, saved: action.edit };
    case 'back':
      return differs(reading.now, reading.proposal) ? step(reading, reading.proposal) : reading;
    case 'undo':
      return travel(reading, reading.past, reading.future, 'past');
    case 'redo':
      return travel(reading, reading.future, reading.past, 'future');
  }
}

/** Where the lesions are that the reader added outside of what the AI looked at. */
export function addedPlaces(edit: Edit): Voxel[] {
  return edit.decisions.filter((decision) => decision.id.startsWith('R')).map((decision) => decision.anchor);
}

/** An edit as a draft keeps it: without the areas of the proposal, which come anew with it and may be large. */
export function forDraft(edit: Edit, proposal: Edit): Edit {
  return { ...edit, areas: edit.areas.filter((area) => !proposal.areas.includes(area)) };
}

/** A draft's edit; older drafts have no areas. */
export function fromDraft(draft: Omit<Edit, 'areas'> & Partial<Edit>, proposal: Edit): Edit {
  return { ...draft, areas: [...proposal.areas, ...(draft.areas ?? [])] };
}

/** Whether two edits would be sent differently. */
export function differs(one: Edit, other: Edit): boolean {
  if (one === other) return false;
  const said = (edit: Edit) =>
    JSON.stringify([
      edit.thresholdHu,
      [...edit.decisions].sort((a, b) => (a.id < b.id ? -1 : 1)).map((d) => [d.id, d.counted, d.vessel, d.reason, d.note]),
    ]);
  return said(one) !== said(other);
}

/** What the reader's decision says of the AI's: the same, another one, or no. */
export function verdictOn(decision: Pick<Decision, 'counted' | 'vessel'>, proposed: Decision | undefined): Verdict {
  if (proposed === undefined) return decision.counted ? 'modify' : 'reject';
  if (decision.counted === proposed.counted && decision.vessel === proposed.vessel) return 'accept';
  return proposed.counted && !decision.counted ? 'reject' : 'modify';
}

/** The decision that the change makes; null when it changes nothing. */
function decided(reading: Reading, lesion: DecidedLesion, change: Change): Decision | null {
  const former = reading.now.decisions.find((decision) => decision.id === lesion.id) ?? lesion.decision ?? newDecision(lesion);
  const merged = { ...former, ...change };
  // Where nothing is counted there is nothing to say about why; a reason for the contrary would be left behind.
  const cleared = change.counted === true && former.reason !== '' && change.reason === undefined ? { ...merged, reason: '' } : merged;
  const decision = { ...cleared, verdict: verdictOn(cleared, proposedFor(reading, lesion.id)) };
  const same = former.counted === decision.counted && former.vessel === decision.vessel;
  return same && former.reason === decision.reason && former.note === decision.note ? null : decision;
}

function withDecision(edit: Edit, decision: Decision, voxels: readonly number[] = []): Edit {
  const { id } = decision;
  const known = edit.decisions.some((each) => each.id === id);
  const decisions = known ? edit.decisions.map((each) => (each.id === id ? decision : each)) : [...edit.decisions, decision];
  return { ...edit, decisions, areas: voxels.length ? withArea(edit.areas, areaOf(decision, voxels)) : edit.areas };
}

function proposedFor(reading: Reading, id: string): Decision | undefined {
  return reading.proposal.decisions.find((decision) => decision.id === id);
}

/** What holds for a lesion of which nobody said anything. */
export function newDecision(lesion: DecidedLesion): Decision {
  const { id, counted, vessel, peak, peakHu } = lesion;
  return {
    id,
    trackingUid: '',
    counted,
    vessel,
    verdict: verdictOn({ counted, vessel }, undefined),
    reason: '',
    note: '',
    anchor: peak,
    anchorHu: peakHu,
  };
}

/** A bright spot as the reader's own lesion: counted, of no vessel yet, missed by the AI. */
export function addedDecision(id: string, peak: Voxel, peakHu: number, vessel: Vessel = UNASSIGNED): Decision {
  const counted = true;
  return { id, trackingUid: '', counted, vessel, verdict: 'modify', reason: 'missed', note: '', anchor: peak, anchorHu: peakHu };
}

function step(reading: Reading, now: Edit, gesture = ''): Reading {
  const going = gesture !== '' && gesture === reading.gesture;
  const past = going ? reading.past : [...reading.past, reading.now].slice(-MOST_STEPS);
  return { ...reading, now, past, future: [], gesture };
}

function travel(reading: Reading, from: readonly Edit[], to: readonly Edit[], from_name: 'past' | 'future'): Reading {
  const now = from.at(-1);
  if (now === undefined) return reading;
  const [shorter, longer] = [from.slice(0, -1), [...to, reading.now]];
  const both = from_name === 'past' ? { past: shorter, future: longer } : { past: longer, future: shorter };
  return { ...reading, ...both, now, gesture: '' };
}
