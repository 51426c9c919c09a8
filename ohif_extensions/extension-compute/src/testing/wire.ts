// The small volumes that Python and TypeScript both read, as typed arrays.
import { readFileSync } from 'node:fs';

import type { Code, Vessel, VesselScore } from '../../../shared/types';
import type { Decision } from '../calcium/decisions';
import type { Grid, Values } from '../calcium/grid';

type Triple = [number, number, number];

export interface WireLesion {
  id: string;
  class: number;
  voxels: number;
  score: number;
  volume_mm3: number;
  peak_hu: number;
  peak: Triple;
  total_hu: number;
  center_mm: Triple;
  counted: boolean;
  vessel: Vessel;
  slices: { k: number; row: number; column: number; area_mm2: number; peak_hu: number; weight: number; score: number }[];
}

export interface WireScores {
  threshold_hu: number;
  agatston: number;
  agatston_by_spacing: number;
  volume_mm3: number;
  mass_mg: number | null;
  lesions: number;
  cac_drs: Code | null;
  rumberger: Code | null;
  vessels: Partial<Record<Vessel, VesselScore>>;
}

export interface WireCase {
  name: string;
  shape: Triple;
  type: 'int16' | 'float32';
  values: string;
  classes: string | null;
  affine: number[][];
  threshold_hu: number;
  min_area_mm2: number;
  mass_factor: number | null;
  added: Triple[];
  decisions: { id: string; anchor: Triple; anchor_hu: number; counted: boolean; vessel: Vessel }[];
  paper: Record<string, number | string | null>;
  expected: {
    lesions: WireLesion[];
    scores: WireScores;
    mask: { k: number; vessel: Vessel; runs: number[] }[];
    refused: { index: number; why: string }[];
  };
}

export interface Wire {
  schema: number;
  cases: WireCase[];
  bad_runs: { shape: Triple; runs: { name: string; runs: number[]; code: string }[] };
  bad_thresholds_hu: number[];
}

export const wire = JSON.parse(
  readFileSync(new URL('../../../../tests/wire/calcium-score.json', import.meta.url), 'utf8'),
) as Wire;

function bytes(text: string): ArrayBuffer {
  return Uint8Array.from(Buffer.from(text, 'base64')).buffer;
}

export function gridOf(one: WireCase): Grid {
  return { shape: one.shape, affine: one.affine, frameUid: '1.2.3', sopInstanceUids: Array.from({ length: one.shape[0] }, (_, k) => `1.2.${k}`) };
}

export function valuesOf(one: WireCase): Values {
  return one.type === 'int16' ? new Int16Array(bytes(one.values)) : new Float32Array(bytes(one.values));
}

export function classesOf(one: WireCase): Uint8Array | null {
  return one.classes === null ? null : new Uint8Array(bytes(one.classes));
}

export function decisionsOf(one: WireCase): Decision[] {
  return one.decisions.map(each => ({
    id: each.id, trackingUid: '', counted: each.counted, vessel: each.vessel, verdict: 'modify', reason: '', note: '',
    anchor: { k: each.anchor[0], j: each.anchor[1], i: each.anchor[2] }, anchorHu: each.anchor_hu,
  }));
}
