/** Numbers and codes as a reader sees them: always with their unit, never a bare code. */

import type { Vessel } from '../../../shared/types';

export const VESSEL_CHOICES: readonly { readonly vessel: Vessel; readonly key: string; readonly words: string }[] = [
  { vessel: 'LM', key: '1', words: 'Left main' },
  { vessel: 'LAD', key: '2', words: 'Left anterior descending' },
  { vessel: 'LCx', key: '3', words: 'Left circumflex' },
  { vessel: 'RCA', key: '4', words: 'Right coronary artery' },
  { vessel: 'unassigned', key: '0', words: 'No vessel assigned' },
];

/** A number with so many places, or a dash where there is none. */
export function amount(value: number | null | undefined, places = 1): string {
  return value === null || value === undefined || !Number.isFinite(value) ? '–' : value.toFixed(places);
}

/** What a score at this threshold is called. */
export function scoreName(thresholdHu: number): string {
  return thresholdHu === 130 ? 'Agatston score' : `Score at ${thresholdHu} HU`;
}

/** What has to be said of a threshold that nobody else uses; "" for 130 HU. */
export function thresholdWarning(thresholdHu: number): string {
  return thresholdHu === 130 ? '' : `threshold ${thresholdHu} HU, not an Agatston score; no category`;
}

/** A moment in the reader's own time zone. */
export function moment(iso: string): string {
  const time = new Date(iso);
  return Number.isNaN(time.getTime()) ? '' : time.toLocaleString(undefined, { dateStyle: 'medium', timeStyle: 'short' });
}

const REFUSED: Readonly<Record<string, string>> = {
  outside_volume: 'There is no voxel of this series.',
  below_threshold: 'Not bright enough: below the threshold.',
  in_region: 'This belongs to a lesion already listed, or is too small for one.',
  too_large: 'Not added: larger than 5 ml, so most likely bone.',
  too_long: 'Not added: longer than 30 mm, so most likely bone.',
  too_small: 'Not added: smaller than the least area of a lesion.',
};

/** Why a click added nothing. */
export function refusalWords(code: string): string {
  return REFUSED[code] ?? `Not added (${code}).`;
}

const WHY: Readonly<Record<string, string>> = {
  unreachable: 'the server does not answer',
  answer_unreadable: 'the answer could not be read',
  login_needed: 'the login has ended',
  other_user: 'someone else is logged in',
  csrf: 'the login has changed',
  study_unknown: 'the server does not know this study (any more), or you may not see it',
  action_forbidden: 'your role may not correct results',
  seal_broken: 'it does not open with your key: it was changed, or kept under an earlier key',
};

/** Why a correction is not with the server yet. */
export function deliveryWords(code: string): string {
  return WHY[code] ?? `the server said ${code}`;
}
