// The messages of the gateway as TypeScript sees them: states, results, findings, corrections, sessions.

export interface Code {
  value: string;
  scheme: string;
  meaning: string;
}

export type Role = 'admin' | 'radiologist' | 'doctor' | 'clinician';

export interface User {
  id: string;
  name: string;
  display_name: string;
  role: Role;
}

export interface Session {
  user: User;
  csrf: string;
  expires_at: string;
}

export interface ReaderKey {
  key_id: string;
  /** Base64 of 32 bytes. */
  key: string;
}

export interface OutboxKey extends ReaderKey {
  /** Whose it is. */
  user: string;
  /** What earlier entries may be sealed with. */
  older: readonly ReaderKey[];
}

/** State of a study, a series or a job; `analysed nothing` is `done` with a code. */
export type State =
  | 'received'
  | 'waiting'
  | 'queued'
  | 'running'
  | 'stored'
  | 'done'
  | 'refused'
  | 'failed'
  | 'superseded'
  | (string & {});

export interface StateOfStudy {
  state: State;
  code: string;
  headline: string;
}

export interface Finding {
  kind: 'measurement' | 'observation';
  code: Code;
  method: Code | null;
  value: number | Code;
  unit: string | null;
  site: Code | null;
  tracking: string;
  tracking_uid: string;
  derivation: string;
  probability: number | null;
}

export interface FindingsMask {
  segment: number | null;
  label: string;
  code: Code;
  site: Code | null;
  voxels: number;
  voxel_volume_mm3: number;
  slices: number;
  slice_spacing_mm: number;
  affine: number[][];
  /** The slice with most of its voxels; null where it has none. Absent before version 3. */
  fullest_slice?: number | null;
  /** Lesions that are in the mask but too many to be listed. */
  unlisted_lesions?: number;
  tracking: string;
  tracking_uid: string;
}

/** One island of a lesion in one slice; `row` and `column` are 0-based pixel positions of its centre. */
export interface LesionSlice {
  id: string;
  slice: number;
  sop_instance_uid: string;
  instance_number: number | null;
  row: number;
  column: number;
  area_mm2: number;
  peak_hu: number;
  weight: number;
  score: number;
  vessel: Code;
  counted?: boolean;
}

export interface LesionTotal {
  id: string;
  vessel: Code;
  center_mm: [number, number, number];
  volume_mm3: number;
  peak_hu: number;
  score: number;
  slices: number[];
  tracking: string;
  tracking_uid: string;
  /** False for what the AI set aside; such a lesion is in no score. Absent in version 1. */
  counted?: boolean;
  /** Why it was set aside. */
  reason?: Code | null;
}

/** A quantity in every voxel; the values are in a Parametric Map object. */
export interface FindingsMap {
  label: string;
  code: Code;
  method: Code | null;
  site: Code | null;
  /** UCUM. */
  unit: string;
  /** Values between which colours are spread; null for all values. */
  window: [number, number] | null;
  /** Name of a colour map of DICOM: HOT_IRON, PET, HOT_METAL_BLUE ... */
  color_map: string;
  slices: number;
  affine: number[][];
  defined_voxels: number;
  minimum: number | null;
  median: number | null;
  maximum: number | null;
  sop_instance_uid: string;
  tracking: string;
  tracking_uid: string;
}

export interface FindingsCurve {
  label: string;
  code: Code;
  method: Code | null;
  site: Code;
  /** UCUM, of the values. */
  unit: string;
  /** Seconds since the first frame, rising; one for each value. */
  times_s: number[];
  values: number[];
  /** Slice, row and column, from 0, of the voxels it is the mean of. */
  places: [number, number, number][];
  unlisted_places: number;
  tracking: string;
  tracking_uid: string;
}

export interface ResultObject {
  /** Absent before version 3. */
  kind?: 'map' | 'segmentation' | 'report' | 'key_objects';
  modality: 'OT' | 'SEG' | 'SR' | 'KO';
  sop_class_uid: string;
  sop_instance_uid: string;
  series_instance_uid: string;
  file: string;
}

export interface Scoring {
  /** Where the AI looked: by rule, or by a model. */
  region?: string;
  threshold_hu: number;
  min_area_mm2: number;
  mass_factor: number | null;
  steps_hu: number[];
}

export interface Warning {
  code: Code;
  value: Code;
}

export interface Findings {
  schema: 1 | 2 | 3;
  state: 'done' | 'refused';
  code: string;
  meaning?: string;
  facts?: Record<string, number | string | boolean>;
  notice: string;
  job: string;
  pipeline: string;
  title: string;
  versions: {
    pipeline: string;
    software: string;
    model: { name: string; version: string; sha256: string; family: 'rule' | 'model' };
    container: string;
  };
  intended_use: string;
  started: string;
  study: string;
  source_series: string;
  source_instances: number;
  inputs_sha256: string;
  findings: Finding[];
  masks: FindingsMask[];
  /** Absent before version 3, as are curves and settings. */
  maps?: FindingsMap[];
  curves?: FindingsCurve[];
  settings?: Record<string, number | string | boolean>;
  lesions: LesionSlice[];
  lesion_totals: LesionTotal[];
  warnings: Warning[];
  results: ResultObject[];
  scoring?: Scoring;
}

export interface Job {
  job: string;
  series: string;
  pipeline: string;
  state: State;
  stage: string;
  code: string;
  /** In plain words. */
  reason: string;
  run: number;
  entered: string;
  updated: string;
  summary: string;
  superseded: boolean;
  findings: Findings | null;
}

export interface SeriesResults {
  series: string;
  modality: string;
  state: State;
  code: string;
  reason: string;
  excluded_by: string;
  why: unknown;
  /** Newest first. */
  jobs: Job[];
}

export interface ReportReference {
  sop_instance_uid: string;
  series_instance_uid: string;
  title: string;
  created: string;
  maker: string;
  kind: 'result' | 'assessment' | 'other';
}

export interface Results {
  study: string;
  state: State;
  code: string;
  reason: string;
  notice: string;
  version: number;
  series: SeriesResults[];
  reports: ReportReference[];
}

export interface ReportItem {
  level: number;
  name: string;
  kind: string;
  value: string;
  unit: string;
  code: Code | null;
}

/** A structured report as text that a person can read. */
export interface ReadableReport {
  title: string;
  created: string;
  maker: string;
  complete: boolean;
  items: ReportItem[];
  warnings: string[];
}

export type Verdict = 'accept' | 'modify' | 'reject';

export type Vessel = 'LM' | 'LAD' | 'LCx' | 'RCA' | 'unassigned';

export interface Anchor {
  sop_instance_uid: string;
  row: number;
  column: number;
}

export interface CorrectedLesion {
  id: string;
  /** Empty for lesions that the reader added. */
  tracking_uid: string;
  verdict: Verdict;
  counted: boolean;
  vessel: Vessel;
  reason: string;
  note: string;
  anchor: Anchor;
}

/** Counted pixels of one image: start, length, start, length ... of flat row-major 0-based indices, ascending and disjoint. */
export interface MaskOfImage {
  sop_instance_uid: string;
  vessel: Vessel;
  runs: number[];
}

export interface BrowserScores {
  agatston: number;
  agatston_by_spacing: number;
  volume_mm3: number;
  mass_mg: number | null;
  lesions: number;
}

export interface CalciumCorrection {
  threshold_hu: number;
  lesions: CorrectedLesion[];
  mask: MaskOfImage[];
  scores: BrowserScores;
}

export interface NewCorrection {
  schema: 1;
  id: string;
  made_at: string;
  result: { job: string; sop_instance_uid: string };
  source_series: string;
  verdict: Verdict;
  reason: string;
  note: string;
  base: string;
  calcium: CalciumCorrection | null;
}

export interface VesselScore {
  agatston: number;
  volume_mm3: number;
  lesions: number;
}

export interface ServerScores {
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

export interface Correction {
  id: string;
  seq: number;
  author: { id: string; display_name: string };
  made_at: string;
  received_at: string;
  verdict: Verdict;
  reason: string;
  note: string;
  result: { job: string; sop_instance_uid: string };
  source_series: string;
  base: string;
  calcium: CalciumCorrection | null;
  scores: ServerScores | null;
  score_check: 'equal' | 'differs' | 'none';
  concurrent: string[];
  objects: { modality: 'SR' | 'SEG'; sop_instance_uid: string; series_instance_uid: string }[];
  delivery: 'waiting' | 'stored';
}

/** Why a thing could not be had, as the gateway says it (application/problem+json). */
export interface Problem {
  title: string;
  status: number;
  code: string;
  correlation: string;
  [fact: string]: unknown;
}
