import { describe, expect, it } from 'vitest';
import { areasOf, fromFindings } from '../../../extension-compute/src/calcium/decisions';
import { CalciumEngine } from '../../../extension-compute/src/engine';
import type { CalciumCorrection, Findings } from '../../../shared/types';
import { faultOf } from '../correction/check';
import { newCorrection } from '../correction/build';
import { type Loaded, type LoadOptions, numbersOf } from './load';
import { ReadingModel } from './model';
import type { Edit } from './state';
import { disagreements } from './proposed';

const [SLICES, ROWS, COLUMNS] = [4, 12, 16] as const;
const PLANE = ROWS * COLUMNS;
const uids = Array.from({ length: SLICES }, (_, k) => `1.2.3.${k}`);

const findings = {
  job: 'a'.repeat(40),
  study: '1.2',
  source_series: '1.2.3',
  lesion_totals: [],
  masks: [],
  results: [{ modality: 'SR', sop_class_uid: '1', sop_instance_uid: '2.25.1', series_instance_uid: '2.25.2', file: '' }],
  scoring: { threshold_hu: 130, min_area_mm2: 1, mass_factor: null, steps_hu: [130, 200, 300, 400] },
} as unknown as Findings;

/** 1 mm voxels, 3 mm apart: 4 pixels of 400 HU in the region, 4 of 250 set aside, 4 of 500 outside of both. */
async function loader(bridgeHu = 0): Promise<Loaded> {
  const values = new Int16Array(SLICES * PLANE).fill(0);
  const classes = new Uint8Array(SLICES * PLANE);
  const paint = (k: number, j: number, i: number, hu: number) => {
    for (const at of [0, 1, COLUMNS, COLUMNS + 1]) values[k * PLANE + j * COLUMNS + i + at] = hu;
  };
  for (let k = 0; k < SLICES; k++) {
    for (let j = 0; j < ROWS; j++) for (let i = 0; i < 10; i++) classes[k * PLANE + j * COLUMNS + i] = i < 6 ? 1 : 2;
  }
  paint(1, 2, 2, 400);
  paint(2, 6, 7, 250);
  paint(2, 3, 12, 500);
  if (bridgeHu) {
    // L1 goes on: a bridge, and a second peak that is not as high.
    paint(1, 4, 2, bridgeHu);
    paint(1, 6, 2, 350);
  }
  const affine = [[0, 0, 1, 0], [0, 1, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]];
  const grid = { shape: [SLICES, ROWS, COLUMNS] as const, affine, sopInstanceUids: uids, frameUid: '1.9' };
  const volume = { values, grid, imageIds: uids };
  const engine = await CalciumEngine.start({ values, classes, grid }, { workerUrl: null });
  const found = await engine.compute({ thresholdHu: 130, added: [] });
  const totals = (found?.lesions ?? []).map((lesion, n) => ({
    id: lesion.regionClass === 1 ? 'L1' : 'S1', vessel: { value: '41801008', scheme: 'SCT', meaning: '' }, center_mm: [...lesion.centerMm],
    volume_mm3: lesion.volumeMm3, peak_hu: lesion.peakHu, score: lesion.score, slices: [], tracking: `${n}`, tracking_uid: `2.25.${n + 5}`,
    counted: lesion.regionClass === 1,
  })) as unknown as Findings['lesion_totals'];
  const { decisions, missing } = fromFindings(totals, found?.lesions ?? [], grid);
  return { findings, volume, engine, proposal: { thresholdHu: 130, decisions, areas: found ? areasOf(decisions, found.runs, grid.shape) : [] }, differences: [], missing, categories: true };
}

async function ready(load: (f: Findings, ids: readonly string[], o: LoadOptions) => Promise<Loaded> = () => loader()): Promise<ReadingModel> {
  const model = new ReadingModel(findings, load);
  await model.start(uids);
  return model;
}

const settled = async (model: ReadingModel) => {
  while (model.view().stale) await new Promise((resolve) => setTimeout(resolve, 1));
};
const agatston = (model: ReadingModel) => model.view().scored?.scores.agatston;
const lesion = (model: ReadingModel, id: string) => {
  const found = model.view().scored?.lesions.find((each) => each.id === id);
  if (!found) throw new Error(id);
  return found;
};
const wire = (model: ReadingModel) => {
  const said = { verdict: 'modify', reason: '', note: '', base: '' } as const;
  return newCorrection(findings, said, model.read(), '0b8f5a34-7f9e-4f4e-9d0a-0f3f4c1b2a10', new Date('2026-03-14T08:26:53.589Z'));
};

describe('a reading that is computed', () => {
  it('begins with what the AI counts: 4 mm2 of 400 HU are 16', async () => {
    const model = await ready();
    expect(model.view().phase).toBe('ready');
    expect(model.view().loaded?.missing).toEqual([]);
    expect(agatston(model)).toBe(16);
  });

  it('follows what the reader takes in and out without finding lesions anew', async () => {
    const model = await ready();
    model.dispatch({ type: 'decide', lesion: lesion(model, 'S1'), change: { counted: true, vessel: 'RCA' } });
    expect(agatston(model)).toBe(16 + 4 * 2);
    expect(model.view().scored?.scores.vessels.RCA?.agatston).toBe(8);
    model.dispatch({ type: 'decide', lesion: lesion(model, 'L1'), change: { counted: false } });
    expect(agatston(model)).toBe(8);
  });

  it('finds lesions anew at another threshold and keeps what was decided until they are back', async () => {
    const model = await ready();
    model.dispatch({ type: 'decide', lesion: lesion(model, 'S1'), change: { counted: true } });
    model.dispatch({ type: 'threshold', hu: 300 });
    expect(model.read()).toBeNull();
    await settled(model);
    expect(agatston(model)).toBe(16);
    expect(model.view().scored?.scores.cac_drs).toBeNull();
    model.dispatch({ type: 'threshold', hu: 130 });
    await settled(model);
    expect(agatston(model)).toBe(24);
  });

  it('adds a bright spot outside of what the AI looked at, and says why where it does not', async () => {
    const model = await ready();
    expect(await model.addAt({ k: 2, j: 4, i: 13 })).toEqual({ id: 'R1' });
    await settled(model);
    expect(agatston(model)).toBe(16 + 16);
    expect(lesion(model, 'R1').decision?.reason).toBe('missed');
    expect(await model.addAt({ k: 0, j: 4, i: 13 })).toEqual({ refused: 'below_threshold' });
    model.dispatch({ type: 'undo' });
    await settled(model);
    expect(agatston(model)).toBe(16);
  });

  it('names the lesion under a click', async () => {
    const model = await ready();
    expect(model.lesionAt({ k: 1, j: 3, i: 3 })?.id).toBe('L1');
    expect(model.lesionAt({ k: 1, j: 9, i: 3 })).toBeNull();
    expect(model.valueAt({ k: 2, j: 3, i: 12 })).toBe(500);
  });

  it('is sent as the schema wants it, and comes back as it was', async () => {
    const model = await ready();
    model.dispatch({ type: 'decide', lesion: lesion(model, 'S1'), change: { counted: true, vessel: 'LAD' } });
    await model.addAt({ k: 2, j: 4, i: 13 });
    await settled(model);
    model.dispatch({ type: 'decide', lesion: lesion(model, 'L1'), change: { counted: false, reason: 'bone', note: ' Rib\u0007 ' } });
    const sent = wire(model);
    expect(faultOf(sent)).toBeNull();
    expect(sent.calcium?.mask).toEqual([
      { sop_instance_uid: '1.2.3.2', vessel: 'LAD', runs: [6 * 16 + 7, 2, 7 * 16 + 7, 2] },
      { sop_instance_uid: '1.2.3.2', vessel: 'unassigned', runs: [3 * 16 + 12, 2, 4 * 16 + 12, 2] },
    ]);
    expect(sent.calcium?.lesions.find((each) => each.id === 'L1')).toMatchObject({ verdict: 'reject', reason: 'bone', note: 'Rib' });
    const other = await ready();
    await other.restore('anna', JSON.parse(JSON.stringify(sent.calcium)) as CalciumCorrection, null);
    await settled(other);
    expect(agatston(other)).toBe(agatston(model));
    expect(wire(other).calcium).toEqual(sent.calcium);
  });

  it('leaves a lesion out in all its parts, also after it was saved, and after a reload with a draft', async () => {
    const bridged = () => loader(200);
    const model = await ready(bridged);
    model.dispatch({ type: 'decide', lesion: lesion(model, 'L1'), change: { counted: false, reason: 'bone' } });
    const draft = JSON.parse(JSON.stringify(model.view().reading?.now)) as Edit;
    expect(agatston(model)).toBe(0);
    const saved = wire(model).calcium;
    const raise = async (each: ReadingModel) => {
      each.dispatch({ type: 'threshold', hu: 300 });
      await settled(each);
      expect(each.view().scored?.lesions.filter((one) => one.regionClass === 1).map((one) => one.counted)).toEqual([false, false]);
      expect(agatston(each)).toBe(0);
    };
    await raise(model);
    const part = model.view().scored?.lesions.find((one) => one.peakHu === 350);
    expect(part?.decision).toMatchObject({ reason: 'bone', trackingUid: '', verdict: 'reject' });
    expect(faultOf(wire(model))).toBeNull();
    model.dispatch({ type: 'undo' });
    await settled(model);
    expect(model.view().scored?.lesions.filter((one) => one.regionClass === 1)).toHaveLength(1);

    const reloaded = await ready(bridged);
    await reloaded.restore('anna', JSON.parse(JSON.stringify(saved)) as CalciumCorrection, null);
    await settled(reloaded);
    await raise(reloaded);
    const resumed = await ready(bridged);
    await resumed.restore('anna', null, draft);
    await raise(resumed);
  });

  it('gives another reader a reading of their own', async () => {
    const model = await ready();
    await model.restore('anna', null, null);
    model.dispatch({ type: 'decide', lesion: lesion(model, 'L1'), change: { counted: false } });
    expect(model.isNewTo('bert')).toBe(true);
    await model.restore('bert', null, null);
    expect(agatston(model)).toBe(16);
  });

  it('says why it cannot be computed, and can be started again', async () => {
    let broken = true;
    const model = await ready(async () => {
      if (broken) throw Object.assign(new Error(), { code: 'seg_other_grid' });
      return loader();
    });
    expect(model.view()).toMatchObject({ phase: 'failed', code: 'seg_other_grid' });
    broken = false;
    await model.start(uids);
    expect(agatston(model)).toBe(16);
  });

  it('keeps what the reader did when the engine is lost', async () => {
    const model = await ready();
    model.dispatch({ type: 'decide', lesion: lesion(model, 'L1'), change: { vessel: 'LM' } });
    model.view().loaded?.engine.close();
    model.dispatch({ type: 'threshold', hu: 140 });
    await new Promise((resolve) => setTimeout(resolve, 5));
    expect(model.view()).toMatchObject({ phase: 'failed', code: 'closed' });
    await model.start(uids);
    expect(lesion(model, 'L1').vessel).toBe('LM');
    expect(model.view().reading?.now.thresholdHu).toBe(140);
  });
});

it('two numbers that differ by more than rounding are told apart', async () => {
  const scores = (await ready()).view().scored?.scores;
  if (!scores) throw new Error('no scores');
  const numbers = numbersOf(scores);
  expect(disagreements(numbers, { ...numbers, agatston: 16 * (1 + 1e-9) })).toEqual([]);
  expect(disagreements(numbers, { ...numbers, agatston: 16.1, massMg: 3 })).toEqual([{ name: 'agatston', browser: 16, server: 16.1 }]);
});
