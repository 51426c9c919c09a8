/** The rules of `tests/wire/correction.schema.json` and what a schema cannot say, for what this browser sends. */

import { isReason } from '../../../shared/reasons';

/** Where a document breaks a rule and which; null when it keeps all of them. */
export interface Fault {
  readonly path: string;
  readonly rule: string;
}

const VERDICTS = ['accept', 'modify', 'reject'];
const VESSELS = ['LM', 'LAD', 'LCx', 'RCA', 'unassigned'];
const UUID4 = /^[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}$/;
const UID = /^[0-9]+(\.[0-9]+)+$/;
const DAY = '[12][0-9]{3}-(0[1-9]|1[0-2])-(0[1-9]|[12][0-9]|3[01])';
const TIME = '([01][0-9]|2[0-3]):[0-5][0-9]:[0-5][0-9](\\.[0-9]{1,6})?(Z|[+-](0[0-9]|1[0-4]):[0-5][0-9])';
const MOMENT = new RegExp(`^${DAY}T${TIME}$`);
const LESION_ID = /^[A-Za-z][A-Za-z0-9_.-]{0,31}$/;
const NOTE_LENGTH = 2000;
// Everything that is not shown but tab and line feed.
// eslint-disable-next-line no-control-regex -- control characters are what it is about
const CONTROL = /[\u0000-\u0008\u000b-\u001f\u007f-\u009f]/;
const MOST_ROWS = 16383;
const MOST_INDEX = 268435455;
const MOST_LISTED = 20_000;
const MOST_RUNS = 400_000;
const MOST_VOXELS = 5_000_000;
const MOST_AMOUNT = 1e12;

class Broken extends Error {
  constructor(
    readonly path: string,
    readonly rule: string,
  ) {
    super(`${path}: ${rule}`);
  }
}

/** The first fault of a correction as it is about to be sent, or null. */
export function faultOf(document: unknown): Fault | null {
  try {
    checkCorrection(document);
    return null;
  } catch (error) {
    if (error instanceof Broken) return { path: error.path, rule: error.rule };
    throw error;
  }
}

function checkCorrection(document: unknown): void {
  const it = record(document, '', [
    'schema', 'id', 'made_at', 'result', 'source_series', 'verdict', 'reason', 'note', 'base', 'calcium',
  ]);
  must(it['schema'] === 1, 'schema', 'is 1');
  matching(it['id'], 'id', UUID4);
  const moment = matching(it['made_at'], 'made_at', MOMENT);
  must(moment.length <= 32 && isDay(moment.slice(0, 10)), 'made_at', 'is a moment');
  const result = record(it['result'], 'result', ['job', 'sop_instance_uid']);
  matching(result['job'], 'result.job', /^[0-9a-f]{40}$/);
  uid(result['sop_instance_uid'], 'result.sop_instance_uid');
  uid(it['source_series'], 'source_series');
  const verdict = oneOf(it['verdict'], 'verdict', VERDICTS);
  reasonAndNote(it, '');
  must(verdict !== 'reject' || it['reason'] !== '', 'reason', 'is needed for a rejection');
  if (it['base'] !== '') matching(it['base'], 'base', UUID4);
  must(verdict !== 'modify' || it['calcium'] !== null, 'calcium', 'is needed where something was modified');
  if (it['calcium'] !== null) checkCalcium(it['calcium']);
}

function isDay(day: string): boolean {
  const time = new Date(`${day}T00:00:00Z`);
  return !Number.isNaN(time.getTime()) && time.toISOString().startsWith(day);
}

function checkCalcium(value: unknown): void {
  const calcium = record(value, 'calcium', ['threshold_hu', 'lesions', 'mask', 'scores']);
  const threshold = number(calcium['threshold_hu'], 'calcium.threshold_hu');
  must(threshold >= 50 && threshold <= 300, 'calcium.threshold_hu', 'is 50 to 300');
  const ids = list(calcium['lesions'], 'calcium.lesions').map((each, n) => checkLesion(each, `calcium.lesions.${n}`));
  must(new Set(ids).size === ids.length, 'calcium.lesions', 'have different ids');
  checkMask(list(calcium['mask'], 'calcium.mask'));
  checkScores(calcium['scores']);
}

function checkLesion(value: unknown, path: string): string {
  const lesion = record(value, path, ['id', 'tracking_uid', 'verdict', 'counted', 'vessel', 'reason', 'note', 'anchor']);
  const id = matching(lesion['id'], `${path}.id`, LESION_ID);
  if (lesion['tracking_uid'] !== '') uid(lesion['tracking_uid'], `${path}.tracking_uid`);
  oneOf(lesion['verdict'], `${path}.verdict`, VERDICTS);
  must(typeof lesion['counted'] === 'boolean', `${path}.counted`, 'is true or false');
  oneOf(lesion['vessel'], `${path}.vessel`, VESSELS);
  reasonAndNote(lesion, path);
  const anchor = record(lesion['anchor'], `${path}.anchor`, ['sop_instance_uid', 'row', 'column']);
  uid(anchor['sop_instance_uid'], `${path}.anchor.sop_instance_uid`);
  count(anchor['row'], `${path}.anchor.row`, MOST_ROWS);
  count(anchor['column'], `${path}.anchor.column`, MOST_ROWS);
  return id;
}

interface Runs {
  readonly instance: string;
  readonly vessel: string;
  readonly runs: readonly number[];
  readonly voxels: number;
}

function checkMask(entries: readonly unknown[]): void {
  const images = new Map<string, Runs[]>();
  let voxels = 0;
  entries.forEach((each, n) => {
    const found = checkRuns(each, `calcium.mask.${n}`);
    const others = images.get(found.instance) ?? [];
    must(!others.some((one) => one.vessel === found.vessel), `calcium.mask.${n}`, 'is the only one of its image and vessel');
    must(!others.some((one) => overlap(one.runs, found.runs)), `calcium.mask.${n}`, 'shares no pixel with another vessel');
    images.set(found.instance, [...others, found]);
    voxels += found.voxels;
  });
  must(voxels <= MOST_VOXELS, 'calcium.mask', `has at most ${MOST_VOXELS} voxels`);
}

function checkRuns(value: unknown, path: string): Runs {
  const image = record(value, path, ['sop_instance_uid', 'vessel', 'runs']);
  const instance = uid(image['sop_instance_uid'], `${path}.sop_instance_uid`);
  const vessel = oneOf(image['vessel'], `${path}.vessel`, VESSELS);
  const runs = list(image['runs'], `${path}.runs`, MOST_RUNS);
  must(runs.length >= 2 && runs.length % 2 === 0, `${path}.runs`, 'are pairs of start and length');
  let end = 0;
  let voxels = 0;
  for (let n = 0; n < runs.length; n += 2) {
    const start = count(runs[n], `${path}.runs.${n}`, MOST_INDEX);
    const length = count(runs[n + 1], `${path}.runs.${n + 1}`, MOST_INDEX);
    must(length >= 1, `${path}.runs.${n + 1}`, 'is at least 1');
    must(start >= end, `${path}.runs.${n}`, 'comes after the run before');
    end = start + length;
    voxels += length;
  }
  return { instance, vessel, runs: runs as number[], voxels };
}

/** Whether two ascending lists of runs share a pixel. */
function overlap(one: readonly number[], other: readonly number[]): boolean {
  let a = 0;
  let b = 0;
  while (a < one.length && b < other.length) {
    const [startA = 0, lengthA = 0, startB = 0, lengthB = 0] = [one[a], one[a + 1], other[b], other[b + 1]];
    if (startA < startB + lengthB && startB < startA + lengthA) return true;
    if (startA + lengthA < startB + lengthB) a += 2;
    else b += 2;
  }
  return false;
}

function checkScores(value: unknown): void {
  const scores = record(value, 'calcium.scores', ['agatston', 'agatston_by_spacing', 'volume_mm3', 'mass_mg', 'lesions']);
  for (const name of ['agatston', 'agatston_by_spacing', 'volume_mm3', 'mass_mg']) {
    if (name === 'mass_mg' && scores[name] === null) continue;
    const amount = number(scores[name], `calcium.scores.${name}`);
    must(amount >= 0 && amount <= MOST_AMOUNT, `calcium.scores.${name}`, 'is not negative');
  }
  count(scores['lesions'], 'calcium.scores.lesions', 1_000_000);
}

function reasonAndNote(it: Record<string, unknown>, path: string): void {
  const at = (name: string) => (path ? `${path}.${name}` : name);
  const { reason, note } = it;
  must(typeof reason === 'string' && (reason === '' || isReason(reason)), at('reason'), 'is one of the list');
  must(typeof note === 'string' && [...note].length <= NOTE_LENGTH, at('note'), `has at most ${NOTE_LENGTH} characters`);
  must(!CONTROL.test(note), at('note'), 'has no control characters');
  must(reason !== 'other' || (note).trim() !== '', at('note'), 'is needed with the reason "other"');
}

function record(value: unknown, path: string, names: readonly string[]): Record<string, unknown> {
  must(typeof value === 'object' && value !== null && !Array.isArray(value), path, 'is an object');
  const it = value as Record<string, unknown>;
  for (const name of names) must(Object.hasOwn(it, name), path ? `${path}.${name}` : name, 'is there');
  for (const name of Object.keys(it)) must(names.includes(name), path ? `${path}.${name}` : name, 'is known');
  return it;
}

function list(value: unknown, path: string, most = MOST_LISTED): unknown[] {
  must(Array.isArray(value) && value.length <= most, path, `is a list of at most ${most}`);
  return value as unknown[];
}

function number(value: unknown, path: string): number {
  must(typeof value === 'number' && Number.isFinite(value), path, 'is a number');
  return value;
}

function count(value: unknown, path: string, most: number): number {
  const whole = number(value, path);
  must(Number.isInteger(whole) && whole >= 0 && whole <= most, path, `is a whole number from 0 to ${most}`);
  return whole;
}

function matching(value: unknown, path: string, pattern: RegExp): string {
  must(typeof value === 'string' && pattern.test(value), path, 'has its form');
  return value;
}

function uid(value: unknown, path: string): string {
  must(typeof value === 'string' && value.length <= 64 && UID.test(value), path, 'is a UID');
  return value;
}

function oneOf(value: unknown, path: string, allowed: readonly string[]): string {
  must(typeof value === 'string' && allowed.includes(value), path, `is one of ${allowed.join(', ')}`);
  return value;
}

function must(holds: boolean, path: string, rule: string): asserts holds {
  if (!holds) throw new Broken(path, rule);
}
