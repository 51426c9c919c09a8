/** Everything a calcium reading needs: the volume, what the AI said of its voxels, and an engine that agrees with the server. */

import type { CalciumResult } from '../../../extension-compute/src/calcium/core';
import { type Area } from '../../../extension-compute/src/calcium/areas';
import { areaOf, areasOf, decide, type DecidedLesion, type Decision, fromFindings, fromWire } from '../../../extension-compute/src/calcium/decisions';
import { voxelVolumeMm3 } from '../../../extension-compute/src/calcium/grid';
import { MIN_AREA_MM2, scoresOf, STEPS_HU } from '../../../extension-compute/src/calcium/scores';
import { CalciumEngine } from '../../../extension-compute/src/engine';
import { type Classes, classesOf, readSegmentation, REGION_LABELS } from '../../../extension-compute/src/segmentation';
import { type CtVolume, loadVolume } from '../../../extension-compute/src/volume';
import { ApiProblem, dicomFile } from '../../../shared/client';
import type { CalciumCorrection, Findings, ServerScores } from '../../../shared/types';
import { type Disagreement, disagreements, type Numbers, proposedNumbers } from './proposed';
import { addedPlaces, type Edit } from './state';

/** Why a reading cannot be computed here; the AI's numbers can still be judged as a whole. */
export class ReadingProblem extends Error {
  constructor(readonly code: 'no_segmentation' | 'no_images') {
    super(code);
    this.name = 'ReadingProblem';
  }
}

/** A reading that can be computed. */
export interface Loaded {
  readonly findings: Findings;
  readonly volume: CtVolume;
  readonly engine: CalciumEngine;
  readonly proposal: Edit;
  /** Numbers of the untouched proposal that are not the server's. */
  readonly differences: readonly Disagreement[];
  /** Lesions of the AI that were not found here at their place. */
  readonly missing: readonly string[];
  /** Whether categories are defined: a heart region and the standard steps. */
  readonly categories: boolean;
}

export interface LoadOptions {
  readonly signal: AbortSignal;
  readonly onProgress: (loaded: number, total: number) => void;
}

/** Loads what a result needs from the viewer's own images. */
export async function loadReading(findings: Findings, imageIds: readonly string[], options: LoadOptions): Promise<Loaded> {
  if (!imageIds.length) throw new ReadingProblem('no_images');
  const mask = findings.masks[0];
  const expected = mask ? { expected: { affine: mask.affine, slices: mask.slices } } : {};
  const [volume, file] = await Promise.all([loadVolume(imageIds, { ...options, ...expected }), segmentationFile(findings, options.signal)]);
  const { classes }: Pick<Classes, 'classes'> = file === null ? { classes: null } : classesOf(readSegmentation(file), volume.grid);
  options.signal.throwIfAborted();
  const stepsHu = findings.scoring?.steps_hu ?? STEPS_HU;
  const rule = { minAreaMm2: findings.scoring?.min_area_mm2 ?? MIN_AREA_MM2, stepsHu };
  const engine = await CalciumEngine.start({ values: volume.values, classes, grid: volume.grid }, { rule });
  try {
    options.signal.throwIfAborted();
    const server = proposedNumbers(findings);
    const found = await engine.compute({ thresholdHu: server.thresholdHu, added: [] });
    if (found === null) throw new DOMException('superseded', 'AbortError');
    const { decisions, missing } = fromFindings(findings.lesion_totals, found.lesions, volume.grid);
    const areas = areasOf(decisions, found.runs, volume.grid.shape);
    const proposal: Edit = { thresholdHu: server.thresholdHu, decisions, areas };
    const categories = classes !== null && stepsHu.every((step, n) => step === STEPS_HU[n]);
    const partly = { findings, volume, engine, proposal, missing, categories };
    const numbers = numbersOf(scored(partly, proposal, found).scores);
    return { ...partly, differences: disagreements(numbers, server) };
  } catch (error) {
    engine.close();
    throw error;
  }
}

/** The AI's segmentation; null when it looked at the whole volume and so needs none. */
async function segmentationFile(findings: Findings, signal: AbortSignal): Promise<ArrayBuffer | null> {
  const seg = findings.results.find((each) => each.modality === 'SEG');
  if (seg) {
    try {
      return await dicomFile(findings.study, seg.series_instance_uid, seg.sop_instance_uid, signal);
    } catch (error) {
      throw error instanceof ApiProblem && error.status === 404 ? new ReadingProblem('no_segmentation') : error;
    }
  }
  if (findings.masks.some((mask) => REGION_LABELS.includes(mask.label))) throw new ReadingProblem('no_segmentation');
  return null;
}

export interface Scored {
  readonly lesions: readonly DecidedLesion[];
  readonly scores: ServerScores;
}

/** The lesions of a result with what was decided on them, and their scores. */
export function scored(loaded: Pick<Loaded, 'findings' | 'volume' | 'categories'>, edit: Edit, result: CalciumResult): Scored {
  const { grid } = loaded.volume;
  const lesions = decide(result.lesions, result.runs, edit.decisions, grid.shape, edit.areas);
  const massFactor = loaded.findings.scoring?.mass_factor ?? null;
  const scores = scoresOf(lesions, grid, result.thresholdHu, massFactor, voxelVolumeMm3(grid.affine), loaded.categories);
  return { lesions, scores };
}

/** Scores as the panel's columns show them. */
export function numbersOf(scores: ServerScores): Numbers {
  return {
    thresholdHu: scores.threshold_hu,
    agatston: scores.agatston,
    bySpacing: scores.agatston_by_spacing,
    volumeMm3: scores.volume_mm3,
    massMg: scores.mass_mg,
    lesions: scores.lesions,
    cacDrs: scores.cac_drs,
    rumberger: scores.rumberger,
    vessels: Object.fromEntries(Object.entries(scores.vessels).map(([vessel, score]) => [vessel, score.agatston])),
  };
}

/** A correction of this result as the edit it was, on top of the AI's proposal. */
export async function editOf(loaded: Loaded, calcium: CalciumCorrection): Promise<Edit> {
  const { grid } = loaded.volume;
  const places = calcium.lesions.map(({ anchor }) => ({
    k: grid.sopInstanceUids.indexOf(anchor.sop_instance_uid),
    j: anchor.row,
    i: anchor.column,
  }));
  const values = await loaded.engine.valuesAt(places);
  const decisions = calcium.lesions.flatMap((lesion, n) => fromWire(lesion, grid, () => values[n] ?? Number.NaN) ?? []);
  const said = new Set(decisions.map((decision) => decision.id));
  const silent = loaded.proposal.decisions.filter((decision) => !said.has(decision.id));
  const edit: Edit = { thresholdHu: calcium.threshold_hu, decisions: [...decisions, ...silent], areas: [] };
  // At which threshold each was said is not known: what the AI found there is the least that a word on the AI's lesion was about.
  const proposed = loaded.proposal.areas.map((area) => {
    const said = decisions.find((decision) => decision.id === area.id);
    return said ? areaOf(said, area.runs) : area;
  });
  return { ...edit, areas: [...proposed, ...(await areasNow(loaded, edit, decisions))] };
}

/** How often it is asked again when a moving slider comes in between. */
const TRIES = 5;

/** The voxels that decisions are about at the edit's own threshold; none when they cannot be had, then anchors alone decide. */
async function areasNow(loaded: Loaded, edit: Edit, decisions: readonly Decision[]): Promise<Area[]> {
  try {
    for (let tries = 0; tries < TRIES; tries++) {
      const found = await loaded.engine.compute(requestOf(edit));
      if (found !== null) return areasOf(decisions, found.runs, loaded.volume.grid.shape);
    }
  } catch {
    // The model asks the same next, and says so.
  }
  return [];
}

/** The request that an edit makes of the engine. */
export function requestOf(edit: Edit, currentSlice?: number) {
  const added = addedPlaces(edit);
  return { thresholdHu: edit.thresholdHu, added, ...(currentSlice === undefined ? {} : { currentSlice }) };
}
