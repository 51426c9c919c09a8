// Numbers, units, times and states as a reader reads them.
import type { Code, Finding, Job, State } from '../../shared/types';

/** UCUM as people write it; unknown units stay as they are. Printed reports have the same list in unit_text.py. */
const UNITS: Readonly<Record<string, string>> = {
  '{score}': 'AU',
  '1': '',
  mm3: 'mm³',
  mm2: 'mm²',
  cm3: 'cm³',
  "[hnsf'U]": 'HU',
  '%': '%',
  '/s': '1/s',
  'mL/(100.g.min)': 'mL/100 g/min',
  'mL/(100.g)': 'mL/100 g',
  '{ratio}': '',
};

export function unitText(unit: string | null): string {
  // What stands in braces is UCUM's annotation, which is words already.
  return unit === null ? '' : (UNITS[unit] ?? unit.replace(/^\{(.*)\}$/, '$1'));
}

/** One digit after the point below 1000, none above; whole numbers stay whole. */
export function numberText(value: number): string {
  if (!Number.isFinite(value)) {
    return 'not defined';
  }
  if (Number.isInteger(value)) {
    return String(value);
  }
  return Math.abs(value) >= 1000 ? value.toFixed(0) : value.toFixed(1);
}

/** A number with its unit, or what was observed in words. */
export function valueText(finding: Pick<Finding, 'value' | 'unit'>): string {
  if (typeof finding.value !== 'number') {
    return finding.value.meaning;
  }
  const unit = unitText(finding.unit);
  return unit === '' ? numberText(finding.value) : `${numberText(finding.value)} ${unit}`;
}

/** What was found, with how it was reckoned where that tells two of a kind apart. */
export function findingText(finding: Pick<Finding, 'code' | 'derivation'>): string {
  return finding.derivation || finding.code.meaning;
}

/** SNOMED CT codes of the coronary arteries (PS3.16 CID 3015), as dicom_services/domain/vessels.py has them. */
const VESSELS: Readonly<Record<string, string>> = {
  '3227004': 'LM',
  '59438005': 'LAD',
  '57396003': 'LCx',
  '13647002': 'RCA',
  '41801008': 'unassigned',
};

/** The short name of a coronary artery; `unassigned` where nobody has said which. */
export function vesselText(vessel: Code): string {
  return VESSELS[vessel.value] ?? vessel.meaning;
}

const STATES: Readonly<Record<string, string>> = {
  received: 'received',
  waiting: 'waiting for more images',
  queued: 'waiting for its turn',
  running: 'being analysed',
  stored: 'being stored',
  done: 'done',
  refused: 'not possible for this series',
  failed: 'failed',
  superseded: 'replaced by a newer result',
};

/** A state in words; `done` with a code means that nothing was analysed. */
export function stateText(state: State, code = ''): string {
  if (state === 'done' && code !== '') {
    return 'not analysed';
  }
  return STATES[state] ?? state;
}

export function isUnderWay(state: State): boolean {
  return state === 'received' || state === 'waiting' || state === 'queued' || state === 'running' || state === 'stored';
}

const CODES: Readonly<Record<string, string>> = {
  no_rule: 'No pipeline is set up for images of this kind.',
  not_selected: 'Another series of the study suits the analysis better.',
  before_radloop: 'The series was stored before this system was set up.',
  unreachable: 'The server does not answer.',
  answer_unreadable: "The server's answer cannot be read.",
  login_needed: 'The session has ended; log in again.',
  study_unknown: 'There is no such study, or it is not yours to see.',
  audit_unavailable: 'The access log cannot be written, so nothing is shown.',
  internal_error: 'The server failed; try again.',
  too_many_tries: 'Too many tries; wait a while.',
  login_refused: 'Name or password is wrong.',
};

/** A code in plain words; what is not known is shown as code, never as nothing. */
export function codeText(code: string, given = ''): string {
  return given || CODES[code] || (code === '' ? '' : `Code: ${code.replaceAll('_', ' ')}.`);
}

/** Local date and time to the minute; the text itself when it is no time. */
export function timeText(iso: string): string {
  const time = new Date(iso);
  if (Number.isNaN(time.getTime())) {
    return iso;
  }
  const two = (part: number): string => String(part).padStart(2, '0');
  return `${time.getFullYear()}-${two(time.getMonth() + 1)}-${two(time.getDate())} ${two(time.getHours())}:${two(time.getMinutes())}`;
}

/** One line for a job: what it is doing, or how it ended. */
export function jobText(job: Pick<Job, 'state' | 'stage' | 'code' | 'reason' | 'superseded'>): string {
  if (job.superseded) {
    return 'replaced by a newer result';
  }
  if (job.state === 'waiting' && job.stage === 'after') {
    return 'waiting for other analyses';
  }
  const state = stateText(job.state, job.code);
  if (job.state === 'running' && job.stage !== '') {
    return `${state}: ${job.stage.replaceAll('_', ' ')}`;
  }
  return state;
}
