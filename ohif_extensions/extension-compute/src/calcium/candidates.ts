// The voxels that any threshold of the slider can reach, listed once, so that each threshold is a pass over them alone.
import type { Values } from './grid';
import { limitFor } from './grid';

/** What part of the volume a voxel belongs to. 0 is outside of both. */
export const OUTSIDE = 0;
/** Where calcium counts unless a reader says otherwise: the heart region. */
export const REGION = 1;
/** What the analysis set aside: counts only if a reader says so. */
export const SET_ASIDE = 2;
/** What a reader added by a click outside of both. */
export const ADDED = 3;

export type RegionClass = typeof REGION | typeof SET_ASIDE | typeof ADDED;

/** The lowest threshold of the slider, in HU. */
export const LOWEST_HU = 50;
/** The highest threshold of the slider, in HU. */
export const HIGHEST_HU = 300;

/** Voxels of one class at or above a floor, slice by slice, in row-major order. */
export interface Candidates {
  /** Those of slice k are `starts[k]` .. `starts[k + 1]`. */
  readonly starts: Uint32Array;
  /** Flat index j * columns + i within the slice. */
  readonly at: Uint32Array;
  readonly values: Values;
}

/** Candidates of one class, in the making; `starts` is set slice by slice. */
export class Growing {
  starts: Uint32Array;
  at = new Uint32Array(4096);
  values: Values;
  count = 0;

  constructor(slices: number, like: Values) {
    this.starts = new Uint32Array(slices + 1);
    this.values = like instanceof Int16Array ? new Int16Array(4096) : new Float32Array(4096);
  }

  /** Make room for `more` entries. */
  reserve(more: number): void {
    let size = this.at.length;
    if (this.count + more <= size) return;
    while (size < this.count + more) size *= 2;
    const at = new Uint32Array(size);
    at.set(this.at);
    const values = this.values instanceof Int16Array ? new Int16Array(size) : new Float32Array(size);
    values.set(this.values);
    this.at = at;
    this.values = values;
  }

  done(): Candidates {
    return { starts: this.starts, at: this.at.slice(0, this.count), values: this.values.slice(0, this.count) };
  }
}

/** The candidates of both classes of a volume. */
export interface Listed {
  readonly region: Candidates;
  readonly setAside: Candidates;
}

/**
 * The candidates of both classes, in one pass over the class map; values are read inside of it only.
 *
 * @param classes (k, j, i) of `OUTSIDE`, `REGION`, `SET_ASIDE`; null when everything is `REGION`
 */
export function collect(
  values: Values,
  classes: Uint8Array | null,
  shape: readonly [number, number, number],
  floorHu: number = LOWEST_HU,
): Listed {
  const plane = shape[1] * shape[2];
  const low = limitFor(values, floorHu);
  const region = new Growing(shape[0], values);
  const setAside = new Growing(shape[0], values);
  for (let k = 0; k < shape[0]; k++) {
    if (classes === null) collectAll(values, k * plane, plane, low, region);
    else collectChosen(values, classes, k * plane, plane, low, region, setAside);
    region.starts[k + 1] = region.count;
    setAside.starts[k + 1] = setAside.count;
  }
  return { region: region.done(), setAside: setAside.done() };
}

const BLOCK = 64;

function collectAll(values: Values, base: number, plane: number, floorHu: number, into: Growing): void {
  for (let first = 0; first < plane; first += BLOCK) {
    const last = Math.min(first + BLOCK, plane);
    into.reserve(BLOCK);
    let n = into.count;
    const { at, values: kept } = into;
    for (let p = first; p < last; p++) {
      const value = values[base + p]!;
      if (value >= floorHu) {
        at[n] = p;
        kept[n++] = value;
      }
    }
    into.count = n;
  }
}

function collectChosen(
  values: Values,
  classes: Uint8Array,
  base: number,
  plane: number,
  floorHu: number,
  region: Growing,
  setAside: Growing,
): void {
  // Four classes are looked at together: most of a volume is outside.
  const aligned = (classes.byteOffset + base) % 4 === 0;
  const words = aligned ? new Uint32Array(classes.buffer, classes.byteOffset + base, plane >> 2) : null;
  let p = 0;
  while (p < plane) {
    if (words !== null && (p & 3) === 0) {
      let word = p >> 2;
      while (word < words.length && words[word] === 0) word++;
      p = word << 2;
      if (p >= plane) return;
    }
    const end = Math.min(p + 4 - (p & 3), plane);
    for (; p < end; p++) {
      const which = classes[base + p]!;
      if (which === OUTSIDE) continue;
      const value = values[base + p]!;
      if (!(value >= floorHu)) continue;
      const into = which === REGION ? region : setAside;
      if (into.count === into.at.length) into.reserve(1);
      into.at[into.count] = p;
      into.values[into.count++] = value;
    }
  }
}

/** Candidates from voxels that are known one by one: flat (k, j, i) indices in rising order. */
export function listed(values: Values, flat: Float64Array, shape: readonly [number, number, number]): Candidates {
  const plane = shape[1] * shape[2];
  const starts = new Uint32Array(shape[0] + 1);
  const at = new Uint32Array(flat.length);
  const kept = values instanceof Int16Array ? new Int16Array(flat.length) : new Float32Array(flat.length);
  for (let n = 0; n < flat.length; n++) {
    const k = Math.floor(flat[n]! / plane);
    starts[k + 1]!++;
    at[n] = flat[n]! - k * plane;
    kept[n] = values[flat[n]!]!;
  }
  for (let k = 0; k < shape[0]; k++) starts[k + 1]! += starts[k]!;
  return { starts, at, values: kept };
}
