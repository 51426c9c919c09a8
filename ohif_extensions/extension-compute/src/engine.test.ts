import { describe, expect, it } from 'vitest';

import type { ClassedVolume } from './calcium/core';
import { CalciumCore } from './calcium/core';
import { CalciumEngine } from './engine';
import { classesOf, gridOf, valuesOf, wire } from './testing/wire';

// There is no worker here, so the page answers; the worker is tested in a browser.
const one = wire.cases.find(each => each.name.startsWith('noise no. 1'))!;
const volume: ClassedVolume = { values: valuesOf(one), classes: classesOf(one), grid: gridOf(one) };
const start = () => CalciumEngine.start(volume, { workerUrl: null });
const request = (thresholdHu: number) => ({ thresholdHu, added: [], currentSlice: 1 });

describe('the engine', () => {
  it('says what its core says, the current slice first', async () => {
    const engine = await start();
    const told: string[] = [];
    const result = await engine.compute(request(130), mask => told.push(`slice ${mask.k}`));
    told.push('all');
    expect(told).toEqual(['slice 1', 'all']);
    expect({ ...result, millis: 0 }).toEqual({ ...new CalciumCore(volume).compute(request(130)), millis: 0 });
    expect(engine.listed).toBeGreaterThan(0);
  });

  it('answers the newest of many thresholds, and null to those it passed over', async () => {
    const engine = await start();
    const slices: number[] = [];
    const answers = await Promise.all([60, 70, 80, 90].map(low => engine.compute(request(low), mask => slices.push(mask.thresholdHu))));
    expect(answers.map(answer => answer?.thresholdHu ?? null)).toEqual([null, null, null, 90]);
    expect(slices).toEqual([60, 90]);
  });

  it('refuses a threshold beyond the slider and goes on', async () => {
    const engine = await start();
    await expect(engine.compute(request(49))).rejects.toMatchObject({ code: 'threshold' });
    await expect(engine.add({ k: 0, j: 0, i: 0 }, 400)).rejects.toMatchObject({ code: 'threshold' });
    await expect(engine.compute(request(50))).resolves.toMatchObject({ thresholdHu: 50 });
  });

  it('lets go of everybody who waits when it is closed', async () => {
    const engine = await start();
    const waiting = [engine.compute(request(130)), engine.valuesAt([]), engine.add({ k: 0, j: 0, i: 0 }, 130)];
    engine.close();
    for (const each of waiting) await expect(each).rejects.toMatchObject({ code: 'closed' });
    await expect(engine.compute(request(130))).rejects.toMatchObject({ code: 'closed' });
  });

  it('says that a volume cannot be used', async () => {
    const broken = { ...volume, grid: { ...volume.grid, shape: [2 ** 33, 1, 1] as const } };
    await expect(CalciumEngine.start(broken, { workerUrl: null })).rejects.toMatchObject({ code: 'memory' });
  });
});
