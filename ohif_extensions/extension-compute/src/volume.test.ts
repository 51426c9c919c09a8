import { describe, expect, it } from 'vitest';

import type { ImageSource, LoadedImage, VolumeOptions } from './volume';
import { loadVolume } from './volume';

interface Made {
  position?: number;
  rows?: number;
  spacing?: number[];
  orientation?: number[];
  frame?: string;
  data?: ArrayLike<number>;
  slope?: number;
  intercept?: number;
  scaled?: boolean;
  shift?: number;
  fails?: boolean;
}

/** Images of 2 x 3 pixels, 2.5 mm apart unless told otherwise. */
function source(all: readonly Made[]): ImageSource {
  const made = (imageId: string) => all[Number(imageId)]!;
  return {
    image: imageId => {
      const one = made(imageId);
      if (one.fails === true) return Promise.reject(new Error('not found'));
      const image: LoadedImage = {
        rows: 2, columns: 3, slope: one.slope ?? 1, intercept: one.intercept ?? 0, preScale: { scaled: one.scaled ?? false },
        getPixelData: () => one.data ?? new Int16Array(6).fill(Number(imageId)),
      };
      return Promise.resolve(image);
    },
    header: (module, imageId) => {
      const one = made(imageId);
      if (module === 'sopCommonModule') return { sopInstanceUID: `1.2.${imageId}` };
      if (module !== 'imagePlaneModule') return undefined;
      return {
        rows: one.rows ?? 2, columns: 3, frameOfReferenceUID: one.frame ?? '1.9', rowPixelSpacing: one.spacing?.[0] ?? 0.7, columnPixelSpacing: one.spacing?.[1] ?? 0.5,
        imageOrientationPatient: one.orientation ?? [1, 0, 0, 0, 1, 0],
        imagePositionPatient: [-10 + (one.shift ?? 0), -20, one.position ?? 2.5 * Number(imageId)],
      };
    },
  };
}

const load = (all: readonly Made[], options: VolumeOptions = {}) =>
  loadVolume(all.map((_, n) => String(n)), { ...options, source: source(all) });

describe('a volume', () => {
  it('has its slices by position, whatever the order they come in', async () => {
    const volume = await load([{ position: 5 }, { position: 0 }, { position: 2.5 }]);
    expect(volume.grid.sopInstanceUids).toEqual(['1.2.1', '1.2.2', '1.2.0']);
    expect(volume.imageIds).toEqual(['1', '2', '0']);
    expect([...volume.values].filter((_, p) => p % 6 === 0)).toEqual([1, 2, 0]);
    expect(volume.grid.affine).toEqual([[0, 0, 0.5, -10], [0, 0.7, 0, -20], [2.5, 0, 0, 0], [0, 0, 0, 1]]);
  });

  it('rises along the normal of rows and columns, as the server sorts', async () => {
    const orientation = [-1, 0, 0, 0, 1, 0];
    const volume = await load([{ orientation }, { orientation }, { orientation }]);
    expect(volume.imageIds).toEqual(['2', '1', '0']);
  });

  it('rescales what the viewer has not, and only that', async () => {
    const data = Uint16Array.of(0, 24, 1024, 1154, 4095, 3);
    const volume = await load([{ data, intercept: -1024 }, { data, intercept: -1024, scaled: true }]);
    expect([...volume.values]).toEqual([-1024, -1000, 0, 130, 3071, -1021, 0, 24, 1024, 1154, 4095, 3]);
    expect(volume.values).toBeInstanceOf(Int16Array);
  });

  it('becomes floats where a value is no whole number of 16 bits, and keeps what it had', async () => {
    const volume = await load([{}, { data: Float32Array.of(1.5, 2, 3, 40000, -2000, 7) }, {}], { atOnce: 1 });
    expect(volume.values).toBeInstanceOf(Float32Array);
    expect([...volume.values].slice(0, 14)).toEqual([0, 0, 0, 0, 0, 0, 1.5, 2, 3, 40000, -2000, 7, 2, 2]);
  });

  it('takes whole floats of the viewer as whole numbers', async () => {
    const volume = await load([{}, { data: Float32Array.of(1, 2, 3, 4, -5000, 130) }]);
    expect(volume.values).toBeInstanceOf(Int16Array);
    expect([...volume.values].slice(6)).toEqual([1, 2, 3, 4, -5000, 130]);
  });

  it('takes the first of two images at one place', async () => {
    const volume = await load([{}, {}, { position: 2.5 }]);
    expect(volume.imageIds).toEqual(['0', '1']);
  });

  it('tells how far it is', async () => {
    const told: string[] = [];
    await load([{}, {}, {}], { atOnce: 1, onProgress: (loaded, total) => told.push(`${loaded}/${total}`) });
    expect(told).toEqual(['1/3', '2/3', '3/3']);
  });

  it('takes the affine of the analysis where that is the same grid', async () => {
    const affine = [[0, 0, 0.5, -10], [0, 0.7, 0, -20], [2.5000001, 0, 0, 0], [0, 0, 0, 1]];
    const volume = await load([{}, {}], { expected: { affine, slices: 2 } });
    expect(volume.grid.affine).toBe(affine);
  });

  it('ends when it is aborted', async () => {
    const stop = new AbortController();
    const loading = load([{}, {}, {}], { atOnce: 1, signal: stop.signal, onProgress: () => stop.abort(new Error('gone')) });
    await expect(loading).rejects.toThrow('gone');
  });

  const other = [[0, 0, 0.5, -10], [0, 0.7, 0, -20], [3, 0, 0, 0], [0, 0, 0, 1]];
  it.each<[string, readonly Made[], VolumeOptions]>([
    ['no_images', [], {}],
    ['single_slice', [{}], {}],
    ['slice_gap', [{}, {}, { position: 7.5 }, { position: 10 }], {}],
    ['slice_spacing_irregular', [{}, { position: 2.6 }, { position: 5 }, { position: 7.5 }], {}],
    ['slices_shifted', [{}, { shift: 1 }, {}], {}],
    ['mixed_size', [{}, { rows: 4 }], {}],
    ['mixed_size', [{}, { data: new Int16Array(5) }], {}],
    ['mixed_spacing', [{}, { spacing: [0.7, 0.6] }], {}],
    ['mixed_orientation', [{}, { orientation: [1, 0, 0, 0, 0, 1] }], {}],
    ['mixed_frames', [{}, { frame: '1.8' }], {}],
    ['no_geometry', [{ orientation: [] }, {}], {}],
    ['no_geometry', [{}, { position: Number.NaN }], {}],
    ['not_hounsfield', [{}, { slope: Number.NaN }], {}],
    ['image_failed', [{}, { fails: true }], {}],
    ['grid_differs', [{}, {}], { expected: { affine: other, slices: 2 } }],
    ['grid_differs', [{}, {}], { expected: { affine: other, slices: 3 } }],
  ])('is refused: %s', async (code, all, options) => {
    await expect(load(all, options)).rejects.toMatchObject({ code });
  });
});
