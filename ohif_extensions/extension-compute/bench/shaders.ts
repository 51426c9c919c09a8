// Each shader against its twin, and what else only a browser can show; `window.checks` runs one by its name.
import wire from '../../../tests/wire/calcium-score.json';
import { CalciumCore, STANDARD_RULE } from '../src/calcium/core';
import { collect } from '../src/calcium/candidates';
import type { Grid, Values } from '../src/calcium/grid';
import { toPatientMm } from '../src/calcium/grid';
import { CalciumEngine } from '../src/engine';
import { BitsPass, bitsTwin } from '../src/gl/bits';
import { GlDevice } from '../src/gl/device';
import { histogram, histogramTwin } from '../src/gl/histogram';
import { collectByBest, collectByGl, sameCandidates } from '../src/gl/listing';
import { run } from '../src/gl/pass';
import { GlProblem } from '../src/gl/problem';
import type { Reduction } from '../src/gl/reduce';
import { reduce, reduceTwin } from '../src/gl/reduce';
import { rowsOf, rowsTwin, slicesOf } from '../src/gl/rows';
import type { Shape } from '../src/gl/texture';
import { Texture } from '../src/gl/texture';
import type { OverlayViewport } from '../../shared/viewer/viewport';
import type { LesionLook } from '../src/overlay';
import { createOverlay } from '../src/overlay';
import { generator, noise } from './random';

type Check = () => void | Promise<void>;
type Triple = readonly [number, number, number];

function equal(found: unknown, expected: unknown, what: string): void {
  const plain = (value: unknown) => JSON.stringify(ArrayBuffer.isView(value) ? Array.from(value as unknown as ArrayLike<number>, String) : value);
  const [one, other] = [plain(found), plain(expected)];
  if (one !== other) throw new Error(`${what}: ${one.slice(0, 200)} is not ${other.slice(0, 200)}`);
}

function refused(code: string, what: () => void): GlProblem {
  try {
    what();
  } catch (error) {
    if (error instanceof GlProblem && error.code === code) return error;
    throw error;
  }
  throw new Error(`not refused: ${code}`);
}

const SHAPE: Triple = [7, 33, 21];
const VOXELS = SHAPE[0] * SHAPE[1] * SHAPE[2];

function floats(voxels: number): Float32Array {
  const values = Float32Array.from(noise(voxels, 5).values, value => value * 1.37);
  values.set([Number.NaN, Infinity, -Infinity, 130, Math.fround(129.99999), -0], 100);
  return values;
}

/** On a context of its own that must have given all its memory back. */
function on(what: (device: GlDevice) => void): void {
  const device = GlDevice.open();
  try {
    what(device);
    equal(device.memory.bytes, 0, 'bytes that are still held');
  } finally {
    device.close();
  }
}

function bits(values: Values, classes: Uint8Array | null, low: number): void {
  on(device => {
    const pass = new BitsPass(device, SHAPE, values instanceof Float32Array, classes !== null);
    const found = pass.bits(values, classes, low);
    const expected = bitsTwin(values, classes, low);
    equal(found.region, expected.region, 'region');
    equal(found.setAside, expected.setAside, 'set aside');
    pass.release();
  });
}

function withTexture(values: Values, shape: Triple, what: (device: GlDevice, texture: Texture, classes: Texture | null) => void, classes: Uint8Array | null = null): void {
  on(device => {
    const size = [shape[2], shape[1], shape[0]] as const;
    const texture = new Texture(device, '3d', values instanceof Float32Array ? 'r32f' : 'r16i', size);
    texture.put(values);
    const marked = classes === null ? null : new Texture(device, '3d', 'r8ui', size);
    if (classes !== null) marked?.put(classes);
    what(device, texture, marked);
    texture.release();
    marked?.release();
  });
}

function rows(values: Values, classes: Uint8Array | null): void {
  withTexture(
    values, SHAPE,
    (device, texture, marked) => {
      for (const low of [50, 130, 299.5]) {
        const found = rowsOf(device, texture, marked, SHAPE, low, 1);
        const expected = rowsTwin(values, classes, SHAPE, low, 1);
        equal(found.count, expected.count, 'count');
        equal(found.peak, expected.peak, 'peak');
        equal(found.sum, expected.sum, 'sum');
        equal(slicesOf(found, SHAPE, [130, 200, 300, 400]), slicesOf(expected, SHAPE, [130, 200, 300, 400]), 'slices');
      }
    },
    classes,
  );
}

function reduction(how: Reduction): void {
  on(device => {
    for (const [across, down] of [[1, 1], [16, 16], [17, 1], [1000, 37], [513, 300]] as const) {
      const next = generator(across);
      const values = Float32Array.from({ length: across * down }, () => (next() % 100000) / 7 - 3000);
      const texture = new Texture(device, '2d', 'r32f', [across, down, 1]);
      texture.put(values);
      equal(reduce(device, texture, how), reduceTwin(values, across, down, how), `${how} of ${across} x ${down}`);
      texture.release();
    }
  });
}

/** What a shader reads from a texture of 16-bit values, pixel by pixel. */
function readBack(device: GlDevice, texture: Texture, shape: Shape): Int32Array {
  const [across, down, deep] = texture.size;
  const target = new Texture(device, '2d', 'r32i', [across, down * deep, 1]);
  const found = new Int32Array(across * down * deep);
  const sampler = shape === '2d' ? 'isampler2D' : shape === '3d' ? 'isampler3D' : 'isampler2DArray';
  const place = shape === '2d' ? 'at' : `ivec3(at.x, at.y % ${down}, at.y / ${down})`;
  try {
    run(device, {
      fragment: `#version 300 es
precision highp float;
precision highp int;
precision highp ${sampler};
uniform ${sampler} source;
out int value;
void main() {
  ivec2 at = ivec2(gl_FragCoord.xy);
  value = texelFetch(source, ${place}, 0).r;
}`,
      inputs: { source: texture }, uniforms: {}, outputs: [target], read: () => target.read(0, found),
    });
  } finally {
    target.release();
  }
  return found;
}

interface WireCase {
  name: string;
  shape: Triple;
  type: string;
  values: string;
  classes: string | null;
  affine: number[][];
  threshold_hu: number;
  min_area_mm2: number;
}

const bytesOf = (text: string) => Uint8Array.from(atob(text), sign => sign.charCodeAt(0)).buffer;

function gridOf(shape: Triple, affine: number[][]): Grid {
  return { shape, affine, frameUid: '1.2.3', sopInstanceUids: Array.from({ length: shape[0] }, (_, k) => `1.2.${k}`) };
}

const AFFINE = [[0, 0, 0.7, -20], [0, 0.8, 0, -30], [2.5, 0, 0, 5], [0, 0, 0, 1]];

/** A viewport that looks along the slices' normal, turned, zoomed, moved and perhaps mirrored. */
function fakeViewport(grid: Grid, k: number, turned: number, flipped: boolean, normal: number[] = [0, 0, 1]): OverlayViewport {
  const element = document.createElement('div');
  Object.assign(element.style, { position: 'relative', width: '400px', height: '300px' });
  document.body.replaceChildren(element);
  const [cosine, sine] = [Math.cos(turned), Math.sin(turned)];
  const [scale, mirror] = [6.3, flipped ? -1 : 1];
  const middle = toPatientMm(grid.affine, k, grid.shape[1] / 2, grid.shape[2] / 2);
  return {
    element,
    getCamera: () => ({ viewPlaneNormal: normal, focalPoint: [...middle] }),
    worldToCanvas: ([x, y]) => {
      const [a, b] = [(x - middle[0]) * mirror, y - middle[1]];
      return [200 + scale * (cosine * a - sine * b), 150 + scale * (sine * a + cosine * b)];
    },
    canvasToWorld: ([u, v]) => {
      const [a, b] = [(u - 200) / scale, (v - 150) / scale];
      return [middle[0] + mirror * (cosine * a + sine * b), middle[1] - sine * a + cosine * b, middle[2]];
    },
  };
}

function overlayAt(turned: number, flipped: boolean): void {
  const shape: Triple = [4, 20, 24];
  const grid = gridOf(shape, AFFINE);
  const values = new Int16Array(shape[0] * shape[1] * shape[2]).fill(40);
  const bright = (k: number, j: number, i: number, hu: number) => (values[(k * shape[1] + j) * shape[2] + i] = hu);
  for (const [j, i] of [[4, 5], [4, 6], [5, 5], [5, 6], [4, 7]] as const) bright(2, j, i, 300);
  for (const [j, i] of [[14, 15], [14, 16], [15, 15], [15, 16]] as const) bright(2, j, i, 200);
  const result = new CalciumCore({ values, classes: null, grid }).compute({ thresholdHu: 130, added: [] });
  const looks: LesionLook[] = [{ counted: true, color: [255, 0, 0] }, { counted: true, color: [0, 0, 255] }];
  const viewport = fakeViewport(grid, 2, turned, flipped);
  const overlay = createOverlay(viewport, grid, []);
  overlay.update({ runs: result.runs, looks, opacity: 1, showExcluded: true });
  const canvas = viewport.element.querySelector('canvas')!;
  const context = canvas.getContext('2d')!;
  const ratio = canvas.width / canvas.clientWidth;
  for (let j = 0; j < shape[1]; j++) {
    for (let i = 0; i < shape[2]; i++) {
      const place = viewport.worldToCanvas([...toPatientMm(grid.affine, 2, j, i)]);
      const voxel = overlay.hitTest([place[0]!, place[1]!]);
      equal(voxel, { k: 2, j, i }, 'voxel under its own place');
      const [x, y] = place.map(value => Math.floor(value * ratio));
      if (x! < 1 || y! < 1 || x! >= canvas.width - 1 || y! >= canvas.height - 1) continue;
      const [red, , blue, alpha] = context.getImageData(x!, y!, 1, 1).data;
      const hu = values[(2 * shape[1] + j) * shape[2] + i]!;
      const name = `voxel ${j} ${i}`;
      if (hu === 300) equal([red! > 200, blue! < 60, alpha! > 200], [true, true, true], name);
      else if (hu === 200) equal([red! < 60, blue! > 200, alpha! > 200], [true, true, true], name);
      else equal(alpha, 0, name);
    }
  }
  overlay.update({ runs: result.runs, looks: looks.map(look => ({ ...look, counted: false })), opacity: 1, showExcluded: false });
  equal(context.getImageData(0, 0, canvas.width, canvas.height).data.some(value => value !== 0), false, 'what is hidden');
  overlay.remove();
  equal(viewport.element.children.length, 0, 'canvases left');
}

const checks: Record<string, Check> = {
  'bits of whole values': () => {
    const { values, classes } = noise(VOXELS, 1);
    for (const low of [50, 130, 130.5, 300]) bits(values, classes, low);
  },
  'bits without classes': () => bits(noise(VOXELS, 2).values, null, 130),
  'bits of floats, with what is no number': () => {
    for (const low of [130, 129.99999, 50.25]) bits(floats(VOXELS), noise(VOXELS, 3).classes, low);
  },
  'rows of whole values': () => rows(noise(VOXELS, 4).values, noise(VOXELS, 4).classes),
  'rows of floats': () => {
    const values = floats(VOXELS).map(value => (Number.isFinite(value) ? value : 0));
    rows(values, null);
  },
  'sum': () => reduction('sum'),
  'highest': () => reduction('max'),
  'lowest': () => reduction('min'),
  'histogram of whole values': () => {
    const { values } = noise(VOXELS, 6);
    withTexture(values, SHAPE, (device, texture) => {
      for (const bins of [{ first: -200, width: 16, count: 50 }, { first: -1024, width: 1, count: 2000 }]) {
        equal(histogram(device, texture, bins), histogramTwin(values, bins), 'counts');
      }
    });
  },
  'histogram of floats': () => {
    const values = floats(VOXELS).map(value => (Number.isFinite(value) ? value : 1e6));
    withTexture(values, SHAPE, (device, texture) => {
      equal(histogram(device, texture, { first: -300, width: 8, count: 200 }), histogramTwin(values, { first: -300, width: 8, count: 200 }), 'counts');
    });
  },
  'textures of one, two and three dimensions': () => {
    const { values } = noise(VOXELS, 7);
    on(device => {
      const made: [Shape, Triple, Int16Array][] = [
        ['2d', [21, 33, 1], values.subarray(0, 21 * 33)], ['3d', [21, 33, 7], values], ['array', [21, 33, 7], values],
      ];
      for (const [shape, size, data] of made) {
        const texture = new Texture(device, shape, 'r16i', size);
        texture.put(data);
        equal(readBack(device, texture, shape), data, shape);
        texture.release();
      }
    });
  },
  'a lost context comes back with its textures': async () => {
    const device = GlDevice.open();
    const { values } = noise(VOXELS, 8);
    const texture = new Texture(device, '3d', 'r16i', [21, 33, 7]);
    texture.put(values);
    equal(readBack(device, texture, '3d'), values, 'before');
    const lose = device.gl.getExtension('WEBGL_lose_context')!;
    const gone = new Promise(resolve => device.gl.canvas.addEventListener('webglcontextlost', resolve, { once: true }));
    lose.loseContext();
    refused('lost', () => readBack(device, texture, '3d'));
    await gone;
    equal(device.lost, true, 'lost');
    // Browsers restore it only after the event has been told to all.
    setTimeout(() => lose.restoreContext());
    await device.restored();
    equal(readBack(device, texture, '3d'), values, 'after');
    texture.release();
    equal(device.memory.bytes, 0, 'bytes that are still held');
    device.close();
  },
  'a listing whose context is lost says so': () => {
    const device = GlDevice.open();
    const { values, classes } = noise(VOXELS, 9);
    device.gl.getExtension('WEBGL_lose_context')!.loseContext();
    refused('lost', () => collectByGl(device, values, classes, SHAPE));
    equal(device.memory.bytes, 0, 'bytes that are still held');
    device.close();
  },
  'a wrong shader is told with its line': () => {
    on(device => {
      const fragment = '#version 300 es\nprecision highp float;\nout float one;\nvoid main() {\n  one = nothing;\n}';
      const problem = refused('shader', () => device.program('#version 300 es\nvoid main() { gl_Position = vec4(0.0); }', fragment));
      if (!/0:5:.*nothing/s.test(problem.detail) || !problem.detail.includes('5 | one = nothing;')) throw new Error(problem.detail);
    });
  },
  'more memory than allowed is refused': () => {
    const device = GlDevice.open(1000);
    refused('too_large', () => new Texture(device, '3d', 'r16i', [10, 10, 10]));
    refused('too_large', () => new Texture(device, '2d', 'r8ui', [100000, 1, 1]));
    equal(device.memory.bytes, 0, 'bytes');
    const texture = new Texture(device, '2d', 'r8ui', [10, 10, 1]);
    equal(device.memory.bytes, 100, 'bytes');
    texture.release();
    texture.release();
    equal([device.memory.bytes, device.memory.peakBytes], [0, 100], 'bytes');
    device.close();
  },
  'software rendering is noticed': () => {
    const device = GlDevice.open();
    equal(device.software, true, device.renderer);
    device.close();
    const shape: Triple = [130, 512, 512];
    const { choice } = collectByBest(new Int16Array(130 * 512 * 512), null, shape);
    equal([choice.by, choice.why], ['processor', 'software'], 'choice');
  },
  'candidates by slabs': () => {
    on(device => {
      const { values, classes } = noise(VOXELS, 10);
      const wanted = collect(values, classes, SHAPE);
      for (const slab of [1, 21 * 33, 3 * 21 * 33, 1e9]) {
        const found = collectByGl(device, values, classes, SHAPE, 50, slab);
        if (!sameCandidates(found.region, wanted.region) || !sameCandidates(found.setAside, wanted.setAside)) throw new Error(`slab ${slab}`);
      }
      const nothing = collectByGl(device, new Int16Array(VOXELS), classes, SHAPE);
      equal(nothing.region.starts, new Uint32Array(SHAPE[0] + 1), 'starts of nothing');
    });
  },
  'the calcium of every small volume': () => {
    const all = wire.cases as unknown as WireCase[];
    on(device => {
      for (const one of all) {
        const values = one.type === 'int16' ? new Int16Array(bytesOf(one.values)) : new Float32Array(bytesOf(one.values));
        const classes = one.classes === null ? null : new Uint8Array(bytesOf(one.classes));
        const volume = { values, classes, grid: gridOf(one.shape, one.affine) };
        const rule = { ...STANDARD_RULE, minAreaMm2: one.min_area_mm2 };
        const request = { thresholdHu: one.threshold_hu, added: [] };
        const plain = new CalciumCore(volume, rule).compute(request);
        const drawn = new CalciumCore(volume, rule, () => collectByGl(device, values, classes, one.shape)).compute(request);
        equal({ ...drawn, millis: 0 }, { ...plain, millis: 0 }, one.name);
      }
    });
  },
  'the worker says what the page says': async () => {
    const shape: Triple = [24, 64, 64];
    const volume = { ...noise(24 * 64 * 64, 11), grid: gridOf(shape, AFFINE) };
    const engine = await CalciumEngine.start(volume);
    const page = await CalciumEngine.start(volume, { workerUrl: null });
    const missing = await CalciumEngine.start(volume, { workerUrl: '/no-such.js' });
    equal([engine.runsIn, page.runsIn, missing.runsIn], ['worker', 'page', 'page'], 'where');
    for (const thresholdHu of [50, 130, 300]) {
      const request = { thresholdHu, added: [{ k: 3, j: 3, i: 3 }], currentSlice: 5 };
      const slices: number[] = [];
      const found = await Promise.all([engine, page, missing].map(each => each.compute(request, mask => slices.push(mask.start.length))));
      equal({ ...found[1], millis: 0 }, { ...found[0], millis: 0 }, 'result');
      equal({ ...found[2], millis: 0 }, { ...found[0], millis: 0 }, 'result without worker');
      equal([slices.length, new Set(slices).size], [3, 1], 'slices told first');
    }
    equal(await engine.valuesAt([{ k: 1, j: 2, i: 3 }]), await page.valuesAt([{ k: 1, j: 2, i: 3 }]), 'values');
    equal(await engine.add({ k: 3, j: 3, i: 3 }, 130), await page.add({ k: 3, j: 3, i: 3 }, 130), 'added');
    for (const each of [engine, page, missing]) each.close();
    const after = await engine.compute({ thresholdHu: 130, added: [] }).catch((error: unknown) => error);
    equal((after as { code?: string }).code, 'closed', 'after closing');
  },
  'of many thresholds the last one is answered': async () => {
    const shape: Triple = [40, 256, 256];
    const volume = { ...noise(40 * 256 * 256, 12), grid: gridOf(shape, AFFINE) };
    for (const workerUrl of [undefined, null]) {
      const engine = await CalciumEngine.start(volume, workerUrl === null ? { workerUrl } : {});
      const answers = await Promise.all(Array.from({ length: 50 }, (_, n) => engine.compute({ thresholdHu: 250 + n, added: [] })));
      equal(answers[49]?.thresholdHu, 299, 'last');
      const done = answers.filter(answer => answer !== null).length;
      if (done > 3) throw new Error(`${done} of 50 were computed`);
      const bad = await engine.compute({ thresholdHu: 49, added: [] }).catch((error: unknown) => error);
      equal((bad as { code?: string }).code, 'threshold', 'below the slider');
      equal((await engine.compute({ thresholdHu: 290, added: [] }))?.thresholdHu, 290, 'after a refusal');
      engine.close();
    }
  },
  'the mask lies on its voxels': () => overlayAt(0, false),
  'the mask lies on its voxels when turned': () => overlayAt(0.6, false),
  'the mask lies on its voxels when mirrored and turned': () => overlayAt(-2.1, true),
  'a view of something else, or an oblique one, shows no mask': () => {
    const grid = gridOf([4, 20, 24], AFFINE);
    const overlay = createOverlay(fakeViewport(grid, 2, 0, false, [0, 0.6, 0.8]), grid, []);
    equal([overlay.section(), overlay.hitTest([200, 150])], [null, null], 'section');
    overlay.remove();
    const foreign = createOverlay({ ...fakeViewport(grid, 2, 0, false), getFrameOfReferenceUID: () => '9.9' }, grid, []);
    equal(foreign.section(), null, 'another frame of reference');
    foreign.remove();
    for (const [type, imageId, index] of [['volume3d', 'b', undefined], ['stack', 'z', undefined], ['stack', 'b', 1], ['orthographic', 'z', 2]] as const) {
      const other = createOverlay({ ...fakeViewport(grid, 2, 0, false), type, getCurrentImageId: () => imageId }, grid, ['a', 'b', 'c', 'd']);
      equal(other.section()?.index, index, `${type} of ${imageId}`);
      other.remove();
    }
  },
};

declare global {
  interface Window {
    checks: { names: string[]; run(name: string): Promise<string> };
  }
}

window.checks = {
  names: Object.keys(checks),
  run: async name => {
    try {
      await checks[name]!();
      return '';
    } catch (error) {
      return error instanceof Error ? `${error.name}: ${error.message}` : String(error);
    }
  },
};
