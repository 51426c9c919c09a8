// How long calcium of 512 x 512 x 512 takes, as ratios to one plain pass over the volume in the same run; `window.speed` measures.
import { REGION } from '../src/calcium/candidates';
import { CalciumCore } from '../src/calcium/core';
import type { Grid, Values } from '../src/calcium/grid';
import { CalciumEngine } from '../src/engine';
import { GlDevice } from '../src/gl/device';
import { collectByGl, sameCandidates } from '../src/gl/listing';
import { collect } from '../src/calcium/candidates';
import type { OverlayViewport } from '../../shared/viewer/viewport';
import type { LesionLook } from '../src/overlay';
import { createOverlay } from '../src/overlay';
import { generator } from './random';

type Triple = readonly [number, number, number];

const ROUNDS = 5;
const NOISE_HU = 20;

/** A chest of ellipses with noise: lung, heart with blood and plaques, spine and ribs; classes are a ball for the heart. */
function chest(shape: Triple): { values: Int16Array; classes: Uint8Array } {
  const [depth, height, width] = shape;
  const shared = (bytes: number) => (crossOriginIsolated ? new SharedArrayBuffer(bytes) : new ArrayBuffer(bytes));
  const values = new Int16Array(shared(2 * depth * height * width));
  const classes = new Uint8Array(shared(depth * height * width));
  const next = generator(3);
  const rough = Int16Array.from({ length: 1 << 16 }, () => {
    let sum = 0;
    for (let n = 0; n < 4; n++) sum += next() / 2 ** 32 - 0.5;
    return Math.round((sum * NOISE_HU) / Math.sqrt(4 / 12));
  });
  const radius = 0.215 * width;
  const [heartK, heartJ, heartI] = [depth / 2, 0.45 * height, 0.55 * width];
  for (let k = 0; k < depth; k++) {
    const offset = next() & 0xffff;
    for (let j = 0; j < height; j++) {
      const y = (j - height / 2) / (0.36 * height);
      for (let i = 0; i < width; i++) {
        const x = (i - width / 2) / (0.45 * width);
        const p = (k * height + j) * width + i;
        const out = x * x + y * y;
        const heart = (k - heartK) ** 2 + (j - heartJ) ** 2 + (i - heartI) ** 2 < radius * radius;
        let hu = out > 1 ? -1000 : out > 0.8 ? -90 : -820;
        if (heart) hu = 42;
        else if (out < 1 && out > 0.84 && ((k >> 3) % 4 === 0)) hu = 450;
        else if ((j - 0.78 * height) ** 2 + (i - width / 2) ** 2 < (0.06 * width) ** 2) hu = 350;
        values[p] = hu + rough[(offset + j * width + i * 7) & 0xffff]!;
        if (heart) classes[p] = REGION;
      }
    }
  }
  for (let n = 0; n < 40; n++) {
    const [a, b, c] = [next(), next(), next()].map(value => value / 2 ** 32 - 0.5);
    const [k0, j0, i0] = [heartK + a! * radius, heartJ + b! * radius, heartI + c! * radius].map(Math.round);
    for (let k = k0!; k < k0! + 3; k++) for (let j = j0!; j < j0! + 5; j++) for (let i = i0!; i < i0! + 6; i++) values[(k * height + j) * width + i] = 250 + 10 * n;
  }
  return { values, classes };
}

/** The highest value: what one plain pass over the memory costs. */
function highest(values: Values): number {
  let most = -Infinity;
  for (let p = 0; p < values.length; p++) if (values[p]! > most) most = values[p]!;
  return most;
}

async function best(rounds: number, what: () => unknown): Promise<number> {
  let least = Infinity;
  for (let n = 0; n < rounds; n++) {
    const started = performance.now();
    await what();
    least = Math.min(least, performance.now() - started);
  }
  return least;
}

const rounded = (value: number, digits = 2) => Number(value.toFixed(digits));

/** As the worker answers, for comparing. */
const plain = (value: unknown) =>
  JSON.stringify(value, (key, each: unknown) => (key === 'millis' ? 0 : ArrayBuffer.isView(each) ? Array.from(each as unknown as ArrayLike<number>) : each));

async function calcium(side: number): Promise<Record<string, unknown>> {
  const shape: Triple = [side, side, side];
  const grid: Grid = {
    shape, affine: [[0, 0, 0.4, 0], [0, 0.4, 0, 0], [0.6, 0, 0, 0], [0, 0, 0, 1]], frameUid: '1',
    sopInstanceUids: Array.from({ length: side }, (_, k) => `1.${k}`),
  };
  const { values, classes } = chest(shape);
  const volume = { values, classes, grid };
  const core = new CalciumCore(volume);
  const request = { thresholdHu: 130, added: [] };
  // In turns, so that whatever else the machine does is everybody's.
  let [pass, list, everything, lesions] = [Infinity, Infinity, Infinity, Infinity];
  for (let round = 0; round < ROUNDS; round++) {
    pass = Math.min(pass, await best(1, () => highest(values)));
    list = Math.min(list, await best(1, () => collect(values, classes, shape)));
    lesions = Math.min(lesions, await best(1, () => core.compute(request)));
    everything = Math.min(everything, await best(1, () => collect(values, null, shape, 130)));
  }
  const low = await best(2, () => core.compute({ thresholdHu: 50, added: [] }));
  const slice = await best(20, () => core.slice(side / 2, 90));
  const wanted = core.compute(request);

  const engine = await CalciumEngine.start(volume);
  const roundTrip = await best(ROUNDS, () => engine.compute({ ...request, currentSlice: side / 2 }));
  const first = await best(20, () => new Promise(resolve => void engine.compute({ thresholdHu: 100, added: [], currentSlice: side / 2 }, resolve)));
  const found = await engine.compute(request);
  const same = plain(found) === plain(wanted);
  const workerListing = engine.listingMillis;
  const { choice } = engine;
  engine.close();

  const device = GlDevice.open();
  const started = performance.now();
  const drawn = collectByGl(device, values, classes, shape);
  const drawnLesions = new CalciumCore(volume, undefined, () => drawn).compute(request);
  const webgl = performance.now() - started;
  const peakBytes = device.memory.peakBytes;
  const sameDrawn = sameCandidates(drawn.region, collect(values, classes, shape).region) && plain(drawnLesions) === plain(wanted);
  const { renderer } = device;
  device.close();
  return {
    voxels: side ** 3, lesions: wanted.lesions.length, candidates: core.listed,
    pass_ms: rounded(pass), listing_ratio: rounded(list / pass), agatston_ratio: rounded((list + lesions) / pass),
    everything_ratio: rounded(everything / pass), threshold_130_ms: rounded(lesions), threshold_50_ms: rounded(low), slice_ms: rounded(slice),
    worker_threshold_ms: rounded(roundTrip), worker_first_slice_ms: rounded(first), worker_listing_ms: rounded(workerListing), worker_equal: same,
    listed_by: choice.by, listed_why: choice.why, webgl2_ms: rounded(webgl), webgl2_ratio: rounded(webgl / pass), webgl2_equal: sameDrawn,
    webgl2_peak_mb: rounded(peakBytes / 1e6), renderer,
    arrays_mb: rounded((values.byteLength + classes.byteLength) / 1e6),
  };
}

/** One slice of 512 x 512 from a new threshold to drawn pixels, as the slider does it. */
async function redraw(): Promise<Record<string, unknown>> {
  const shape: Triple = [40, 512, 512];
  const grid: Grid = {
    shape, affine: [[0, 0, 0.4, 0], [0, 0.4, 0, 0], [3, 0, 0, 0], [0, 0, 0, 1]], frameUid: '1',
    sopInstanceUids: Array.from({ length: shape[0] }, (_, k) => `1.${k}`),
  };
  const volume = { ...chest(shape), grid };
  const element = document.createElement('div');
  Object.assign(element.style, { position: 'relative', width: '900px', height: '900px' });
  document.body.replaceChildren(element);
  const viewport: OverlayViewport = {
    element,
    getCamera: () => ({ viewPlaneNormal: [0, 0, 1], focalPoint: [100, 100, 60] }),
    worldToCanvas: ([x, y]) => [4.2 * x, 4.2 * y],
    canvasToWorld: ([u, v]) => [u / 4.2, v / 4.2, 60],
  };
  const overlay = createOverlay(viewport, grid, []);
  const engine = await CalciumEngine.start(volume);
  const looks: Record<number, LesionLook> = { 1: { counted: true, color: [255, 0, 0] }, 2: { counted: false, color: [200, 200, 200] } };
  const read = element.querySelector('canvas')!.getContext('2d', { willReadFrequently: true })!;
  // What an empty frame costs when a pixel of it is asked for.
  const empty = await best(20, () => {
    overlay.update(null);
    read.getImageData(450, 450, 1, 1);
  });
  // A plain pass over eight slices before each redraw: how much the machine is at something else just then.
  const quiet = await best(40, () => highest(volume.values.subarray(0, 8 * 512 * 512)));
  const passes: number[] = [];
  const times: number[] = [];
  const scripts: number[] = [];
  const whole: number[] = [];
  for (let n = 0; n < 60; n++) {
    const thresholdHu = 50 + ((n * 37) % 250);
    passes.push(await best(1, () => highest(volume.values.subarray(0, 8 * 512 * 512))));
    const started = performance.now();
    const result = await engine.compute({ thresholdHu, added: [], currentSlice: 20 }, mask => {
      overlay.preview(mask, looks);
      scripts.push(performance.now() - started);
      // Without reading a pixel the drawing may not have been done yet.
      read.getImageData(450, 450, 1, 1);
      times.push(performance.now() - started);
    });
    if (result === null) continue;
    overlay.update({ runs: result.runs, looks: result.lesions.map(() => looks[1]!), opacity: 0.5, showExcluded: true });
    read.getImageData(450, 450, 1, 1);
    whole.push(performance.now() - started);
  }
  engine.close();
  overlay.remove();
  const sorted = (list: number[]) => [...list].sort((a, b) => a - b);
  const at = (list: number[], part: number) => rounded(sorted(list)[Math.floor(part * (list.length - 1))]!);
  return {
    redraws: times.length, contention_median: rounded(sorted(passes)[passes.length >> 1]! / quiet), empty_ms: rounded(empty), script_best_ms: at(scripts, 0.05), slice_best_ms: at(times, 0.05), script_median_ms: at(scripts, 0.5), script_p95_ms: at(scripts, 0.95), slice_median_ms: at(times, 0.5), slice_p95_ms: at(times, 0.95), slice_worst_ms: at(times, 1),
    all_median_ms: at(whole, 0.5), all_p95_ms: at(whole, 0.95), frame_ms: 16.67,
  };
}

declare global {
  interface Window {
    speed: { calcium: typeof calcium; redraw: typeof redraw };
  }
}

window.speed = { calcium, redraw };
