/** What a reader says, as the message that goes to the server. */

import type { DecidedLesion } from '../../../extension-compute/src/calcium/decisions';
import { toWire } from '../../../extension-compute/src/calcium/decisions';
import type { CalciumCorrection, Findings, MaskOfImage, NewCorrection, ServerScores, Verdict } from '../../../shared/types';
import { newDecision, type Edit } from '../reading/state';

/** A reading at the moment of saving. */
export interface Read {
  readonly edit: Edit;
  readonly lesions: readonly DecidedLesion[];
  readonly scores: ServerScores;
  readonly mask: MaskOfImage[];
  readonly sopInstanceUids: readonly string[];
}

export interface Said {
  readonly verdict: Verdict;
  readonly reason: string;
  readonly note: string;
  /** Newest correction that this reader had seen, or "". */
  readonly base: string;
}

/** The correction; accepting and rejecting say nothing of single lesions. */
export function newCorrection(findings: Findings, said: Said, read: Read | null, id: string, now: Date): NewCorrection {
  const report = findings.results.find((each) => each.modality === 'SR');
  return {
    schema: 1,
    id,
    made_at: withOffset(now),
    result: { job: findings.job, sop_instance_uid: report?.sop_instance_uid ?? '' },
    source_series: findings.source_series,
    verdict: said.verdict,
    reason: said.reason,
    note: shown(said.note),
    base: said.base,
    calcium: said.verdict === 'modify' && read !== null ? calciumOf(read) : null,
  };
}

function calciumOf(read: Read): CalciumCorrection {
  const here = read.lesions.map((lesion) => lesion.decision ?? newDecision(lesion));
  const ids = new Set(here.map((decision) => decision.id));
  // What no lesion takes at this threshold was still said, and holds again when the threshold goes back.
  const unused = read.edit.decisions.filter((decision) => !ids.has(decision.id));
  const { agatston, agatston_by_spacing, volume_mm3, mass_mg, lesions } = read.scores;
  return {
    threshold_hu: read.edit.thresholdHu,
    lesions: [...here, ...unused].map((decision) => toWire({ ...decision, note: shown(decision.note) }, read.sopInstanceUids)),
    mask: read.mask,
    scores: { agatston, agatston_by_spacing, volume_mm3, mass_mg, lesions },
  };
}

/** Text without control characters but tab and line feed, which nobody can see, and without space around it. */
export function shown(text: string): string {
  // eslint-disable-next-line no-control-regex -- control characters are what it is about
  return text.replace(/\r\n?/g, '\n').replace(/[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/g, '').trim();
}

/** Local time with its offset from UTC, as a person at this place would say it. */
export function withOffset(now: Date): string {
  const minutes = -now.getTimezoneOffset();
  const local = new Date(now.getTime() + minutes * 60_000).toISOString().slice(0, -1);
  const two = (value: number) => String(Math.floor(Math.abs(value))).padStart(2, '0');
  return `${local}${minutes < 0 ? '-' : '+'}${two(minutes / 60)}:${two(minutes % 60)}`;
}
