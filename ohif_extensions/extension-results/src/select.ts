// Which of many results a reader sees first, and how the findings of one are laid out.
import type { Correction, Finding, Findings, Job, LesionSlice, LesionTotal, Results, ResultObject, SeriesResults } from '../../shared/types';

/** All jobs of a study that count, newest first, and those that newer ones have replaced. */
export function jobsOf(results: Results): { current: Job[]; replaced: Job[] } {
  const all = results.series.flatMap(series => series.jobs).sort((left, right) => right.entered.localeCompare(left.entered));
  return { current: all.filter(job => !job.superseded), replaced: all.filter(job => job.superseded) };
}

/** The newest result that has something to show on images. */
export function firstShown(results: Results): Job | null {
  return jobsOf(results).current.find(job => job.findings !== null && job.findings.state === 'done') ?? null;
}

export function objectOf(findings: Findings, modality: ResultObject['modality']): ResultObject | undefined {
  return findings.results.find(object => object.modality === modality);
}

/** What a reader wants at once, and the rest. A finding of a single vessel stands in the table of vessels instead. */
export function layOut(findings: Findings): { main: Finding[]; more: Finding[] } {
  const marked = new Set(findings.masks.map(mask => mask.tracking_uid));
  const hasMaps = (findings.maps ?? []).length > 0;
  const main: Finding[] = [];
  const more: Finding[] = [];
  for (const finding of findings.findings) {
    if (ofVessels(finding)) {
      continue;
    }
    (isMain(finding) || (hasMaps && saysHowMuch(finding, marked)) ? main : more).push(finding);
  }
  if (!hasMaps) {
    return { main, more };
  }
  // Volumes before how they came to be, each as the pipeline has them.
  main.sort((left, right) => Number(left.kind === 'observation') - Number(right.kind === 'observation'));
  return { main, more };
}

function ofVessels(finding: Finding): boolean {
  return finding.derivation.endsWith('lesions not assigned to a vessel') || (finding.site !== null && VESSEL_CODES.has(finding.site.value));
}

/** LM, LAD, LCx, RCA (PS3.16 CID 3015). */
const VESSEL_CODES: ReadonlySet<string> = new Set(['3227004', '59438005', '57396003', '13647002']);

/** Score, volume, mass, number of lesions, categories: the codes of PS3.16 CID 3691, and every observation. */
function isMain(finding: Finding): boolean {
  return finding.kind === 'observation' || ['112058', '111038'].includes(finding.code.value);
}

/** Volume and ratio (SNOMED CT), and the volume by which one exceeds another. */
const AMOUNTS: ReadonlySet<string> = new Set(['118565006', '118586006', 'mismatch']);

/** Of the tissue that was marked: how much it is. */
function saysHowMuch(finding: Finding, marked: ReadonlySet<string>): boolean {
  return AMOUNTS.has(finding.code.value) && marked.has(finding.tracking_uid);
}

export interface VesselRow {
  vessel: string;
  lesions: number;
  score: number;
  volumeMm3: number;
}

/** What the counted lesions of each vessel add up to, in the order of the vessels. */
export function vesselRows(lesions: readonly LesionTotal[], nameOf: (lesion: LesionTotal) => string): VesselRow[] {
  const order = ['LM', 'LAD', 'LCx', 'RCA'];
  const rows = new Map<string, VesselRow>();
  for (const lesion of lesions) {
    if (lesion.counted === false) {
      continue;
    }
    const vessel = nameOf(lesion);
    const row = rows.get(vessel) ?? { vessel, lesions: 0, score: 0, volumeMm3: 0 };
    rows.set(vessel, {
      vessel,
      lesions: row.lesions + 1,
      score: row.score + lesion.score,
      volumeMm3: row.volumeMm3 + lesion.volume_mm3,
    });
  }
  const rank = (row: VesselRow): number => (order.includes(row.vessel) ? order.indexOf(row.vessel) : order.length);
  return [...rows.values()].sort((left, right) => rank(left) - rank(right) || left.vessel.localeCompare(right.vessel));
}

/** Where to look for a lesion: its slice of the highest score, the earlier of two equal ones. */
export function bestSlice(findings: Findings, lesion: string): LesionSlice | null {
  return best(findings.lesions.filter(slice => slice.id === lesion));
}

/** Where to open the images: the slice of the highest score among all that counts. */
export function openingSlice(findings: Findings): LesionSlice | null {
  return best(findings.lesions.filter(slice => slice.counted !== false)) ?? best(findings.lesions);
}

function best(slices: readonly LesionSlice[]): LesionSlice | null {
  return slices.reduce<LesionSlice | null>((found, slice) => (found === null || slice.score > found.score ? slice : found), null);
}

/** Series that hold the objects of current results. */
export function seriesOfResults(results: Results): string[] {
  const found = jobsOf(results).current.flatMap(job => (job.findings?.results ?? []).map(object => object.series_instance_uid));
  return [...new Set(found)].filter(series => series !== '');
}

/** SOP Instance UIDs of the segmentations of some jobs. */
export function segmentationsOf(jobs: readonly Job[]): string[] {
  return jobs.flatMap(job => (job.findings ? (objectOf(job.findings, 'SEG')?.sop_instance_uid ?? []) : []));
}

/** What is made of images, and never analysed itself. */
const DERIVED: ReadonlySet<string> = new Set(['SR', 'SEG', 'KO', 'PR', 'RTSTRUCT', 'DOC', 'OT']);

/** Series of images without any job. */
export function notAnalysed(results: Results): SeriesResults[] {
  return results.series.filter(series => series.jobs.length === 0 && !DERIVED.has(series.modality));
}

/** The corrections of one result, newest first; each reader's last word is what counts for that reader. */
export function correctionsOf(corrections: readonly Correction[], job: string): Correction[] {
  return corrections.filter(one => one.result.job === job).sort((left, right) => right.seq - left.seq);
}

/** Reports of a study that are not this job's own. */
export function otherReports(results: Results): Results['reports'] {
  const own = new Set(
    results.series.flatMap(series => series.jobs.flatMap(job => (job.findings?.results ?? []).map(object => object.sop_instance_uid)))
  );
  return results.reports.filter(report => !own.has(report.sop_instance_uid));
}
