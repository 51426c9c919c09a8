// How a map looks: the values its colours span, and which colours. A result says it; else the values themselves do.

export interface Appearance {
  /** Values of the first and the last colour. */
  window: readonly [number, number] | null;
  /** Name of a colour map of DICOM (PS3.6 annex B). */
  colors: string;
}

const known = new Map<string, Appearance>();

/** Remembers how the map of a result wants to look, by its SOP Instance UID. */
export function remember(sop: string, appearance: Appearance): void {
  known.set(sop, appearance);
}

export function appearanceOf(sop: string): Appearance {
  return known.get(sop) ?? { window: null, colors: 'HOT_IRON' };
}

const TAIL = 0.02;
const MOST_LOOKED_AT = 20_000;

/** From 0, or the lowest values where these are negative, to the highest; the outermost 2 % and undefined ones left out. */
export function windowOf(values: Float32Array): [number, number] {
  const step = Math.max(1, Math.floor(values.length / MOST_LOOKED_AT));
  const some: number[] = [];
  for (let at = 0; at < values.length; at += step) {
    const value = values[at];
    if (value !== undefined && Number.isFinite(value) && value !== 0) some.push(value);
  }
  some.sort((a, b) => a - b);
  const low = some[Math.floor(some.length * TAIL)] ?? 0;
  const high = some[Math.floor(some.length * (1 - TAIL))] ?? 1;
  const bottom = Math.min(0, low);
  return [bottom, high > bottom ? high : bottom + 1];
}
