// Islands of bright pixels: 8-connected within each slice, grouped from slice to slice, in one pass over the candidates.
// As ai_nodes/ops/islands.py: runs of bright pixels are joined to those of the row above by union-find, runs of kept
// islands to those of the slice before.
import type { Candidates } from './candidates';
import { limitFor } from './grid';

/** Runs of kept islands, slice by slice, in row-major order. */
export interface IslandRuns {
  /** Those of slice k are `sliceStart[k]` .. `sliceStart[k + 1]`. */
  readonly sliceStart: Uint32Array;
  /** First flat pixel index within the slice. */
  readonly start: Uint32Array;
  /** One after the last; never beyond the row's end. */
  readonly stop: Uint32Array;
  readonly island: Int32Array;
}

/** Bright pixels that touch within a slice; arrays have one entry for each island, by slice, then by first pixel. */
export interface Islands {
  readonly count: number;
  readonly k: Int32Array;
  readonly areaPx: Int32Array;
  readonly peak: Float64Array;
  /** Flat pixel index within the slice of the first highest pixel. */
  readonly peakAt: Uint32Array;
  readonly total: Float64Array;
  readonly row: Float64Array;
  readonly column: Float64Array;
  /** Islands with the same number touch from slice to slice (26-connected); 0, 1, ... in the order of their first. */
  readonly group: Int32Array;
  readonly groups: number;
  readonly runs: IslandRuns;
}

/** Thrown when a newer request has made this one pointless. */
export class Superseded extends Error {}

/** Infinity and what a 16-bit scanner cannot say count as this. */
const CEILING_HU = 32767;

/** A list that grows, of numbers of one type. */
class Column<T extends Int32Array | Uint32Array | Float64Array> {
  count = 0;
  constructor(public data: T) {}

  push(value: number): void {
    if (this.count === this.data.length) {
      const longer = new (this.data.constructor as new (size: number) => T)(2 * this.count);
      longer.set(this.data);
      this.data = longer;
    }
    this.data[this.count++] = value;
  }

  done(): T {
    return this.data.slice(0, this.count) as T;
  }
}

const ints = () => new Column(new Int32Array(256));
const indices = () => new Column(new Uint32Array(256));
const floats = () => new Column(new Float64Array(256));

/** Runs of one slice, before it is known which are kept; made once and used for every slice. */
class SliceRuns {
  n = 0;
  readonly rows: Int32Array;
  start = new Int32Array(1024);
  stop = new Int32Array(1024);
  parent = new Int32Array(1024);
  area = new Int32Array(1024);
  peak = new Float64Array(1024);
  peakAt = new Int32Array(1024);
  total = new Float64Array(1024);

  constructor(
    readonly height: number,
    readonly width: number,
  ) {
    this.rows = new Int32Array(height + 1);
  }

  private grow(): void {
    const size = 2 * this.start.length;
    const longer = <T extends Int32Array | Float64Array>(old: T): T => {
      const room = new (old.constructor as new (size: number) => T)(size);
      room.set(old);
      return room;
    };
    this.start = longer(this.start);
    this.stop = longer(this.stop);
    this.parent = longer(this.parent);
    this.area = longer(this.area);
    this.peak = longer(this.peak);
    this.peakAt = longer(this.peakAt);
    this.total = longer(this.total);
  }

  /** The runs at or above `low` of candidates `first` .. `last`. */
  fill(candidates: Candidates, first: number, last: number, low: number): void {
    const { at, values } = candidates;
    const limit = limitFor(values, low);
    const { rows, width } = this;
    let n = 0;
    let row = -1;
    let rowEnd = 0;
    let next = -1;
    for (let p = first; p < last; p++) {
      const value = values[p]!;
      if (!(value >= limit)) continue;
      const pixel = at[p]!;
      if (pixel === next && pixel < rowEnd) {
        this.total[n - 1]! += value;
        if (value > this.peak[n - 1]!) {
          this.peak[n - 1] = value;
          this.peakAt[n - 1] = pixel;
        }
      } else {
        if (pixel >= rowEnd) {
          if (n > 0) this.stop[n - 1] = next;
          const j = Math.floor(pixel / width);
          while (row < j) rows[++row] = n;
          rowEnd = (j + 1) * width;
        } else if (n > 0) {
          this.stop[n - 1] = next;
        }
        if (n === this.start.length) this.grow();
        this.start[n] = pixel;
        this.parent[n] = n;
        this.area[n] = 0;
        this.peak[n] = value;
        this.peakAt[n] = pixel;
        this.total[n] = value;
        n++;
      }
      next = pixel + 1;
    }
    if (n > 0) this.stop[n - 1] = next;
    while (row < this.height) rows[++row] = n;
    this.n = n;
  }

  /** Join runs that touch, diagonals included, and add up areas at the first run of each island. */
  join(): void {
    const { rows, parent, area, start, stop, width, height, n } = this;
    for (let j = 1; j < height; j++) {
      let a = rows[j - 1]!;
      const aEnd = rows[j]!;
      let b = aEnd;
      const bEnd = rows[j + 1]!;
      while (a < aEnd && b < bEnd) {
        const aStop = stop[a]! + width;
        if (aStop >= start[b]! && stop[b]! >= start[a]! + width) unite(parent, a, b);
        if (aStop <= stop[b]!) a++;
        else b++;
      }
    }
    for (let run = 0; run < n; run++) {
      // Parents come before their children, so theirs is settled already.
      const root = parent[parent[run]!]!;
      parent[run] = root;
      area[root]! += stop[run]! - start[run]!;
    }
  }
}

function rootOf(parent: Int32Array, n: number): number {
  while (parent[n] !== n) {
    const up = parent[parent[n]!]!;
    parent[n] = up;
    n = up;
  }
  return n;
}

function unite(parent: Int32Array, a: number, b: number): void {
  const one = rootOf(parent, a);
  const other = rootOf(parent, b);
  if (one < other) parent[other] = one;
  else parent[one] = other;
}

/**
 * Islands of at least `leastPx` pixels with values of at least `low`.
 *
 * @param stale asked once a slice; when it says so, `Superseded` is thrown
 */
export function findIslands(
  candidates: Candidates,
  shape: readonly [number, number, number],
  low: number,
  leastPx: number,
  stale: () => boolean = () => false,
): Islands {
  const [depth, height, width] = shape;
  const slice = new SliceRuns(height, width);
  const table = {
    k: ints(), area: ints(), peak: floats(), peakAt: indices(), total: floats(), rows: floats(), columns: floats(), joined: ints(),
  };
  const runs = { start: indices(), stop: indices(), island: ints() };
  const sliceStart = new Uint32Array(depth + 1);
  const rowsBefore = new Int32Array(height + 1);
  const rowsHere = new Int32Array(height + 1);
  let touched = -2;
  for (let k = 0; k < depth; k++) {
    sliceStart[k + 1] = runs.start.count;
    const first = candidates.starts[k]!;
    const last = candidates.starts[k + 1]!;
    if (first === last) continue;
    if (stale()) throw new Superseded();
    slice.fill(candidates, first, last, low);
    if (slice.n === 0) continue;
    slice.join();
    rowsBefore.set(rowsHere);
    const from = runs.start.count;
    keep(k, slice, leastPx, table, runs, rowsHere);
    sliceStart[k + 1] = runs.start.count;
    if (runs.start.count === from) continue;
    if (touched === k - 1) joinSlices(runs, rowsBefore, rowsHere, height, width, table.joined.data);
    touched = k;
  }
  const count = table.k.count;
  const { group, groups } = numbered(table.joined.data, count);
  const area = table.area.done();
  const row = table.rows.done();
  const column = table.columns.done();
  const peak = table.peak.done();
  const total = table.total.done();
  for (let n = 0; n < count; n++) {
    row[n]! /= area[n]!;
    column[n]! /= area[n]!;
    peak[n] = Math.min(peak[n]!, CEILING_HU);
    total[n] = Math.min(total[n]!, CEILING_HU * area[n]!);
  }
  return {
    count, k: table.k.done(), areaPx: area, peak, peakAt: table.peakAt.done(), total, row, column, group, groups,
    runs: { sliceStart, start: runs.start.done(), stop: runs.stop.done(), island: runs.island.done() },
  };
}

interface Table {
  readonly k: Column<Int32Array>;
  readonly area: Column<Int32Array>;
  readonly peak: Column<Float64Array>;
  readonly peakAt: Column<Uint32Array>;
  readonly total: Column<Float64Array>;
  readonly rows: Column<Float64Array>;
  readonly columns: Column<Float64Array>;
  readonly joined: Column<Int32Array>;
}

interface Runs {
  readonly start: Column<Uint32Array>;
  readonly stop: Column<Uint32Array>;
  readonly island: Column<Int32Array>;
}

/** Add the islands that are large enough to the table and their runs to `runs`; row j has `rowsHere[j]` .. */
function keep(k: number, slice: SliceRuns, leastPx: number, table: Table, runs: Runs, rowsHere: Int32Array): void {
  const { rows, parent, area, start, stop, width, height } = slice;
  for (let j = 0; j < height; j++) {
    rowsHere[j] = runs.start.count;
    for (let run = rows[j]!; run < rows[j + 1]!; run++) {
      const root = parent[run]!;
      // A kept island's number replaces its area, as -1 - number.
      const pixels = area[root]!;
      if (pixels >= 0 && pixels < leastPx) continue;
      let island = -1 - pixels;
      if (pixels >= 0) {
        island = table.k.count;
        area[root] = -1 - island;
        table.k.push(k);
        table.area.push(pixels);
        table.peak.push(slice.peak[run]!);
        table.peakAt.push(slice.peakAt[run]!);
        table.total.push(0);
        table.rows.push(0);
        table.columns.push(0);
        table.joined.push(island);
      } else if (slice.peak[run]! > table.peak.data[island]!) {
        table.peak.data[island] = slice.peak[run]!;
        table.peakAt.data[island] = slice.peakAt[run]!;
      }
      const length = stop[run]! - start[run]!;
      const left = start[run]! - j * width;
      table.total.data[island]! += slice.total[run]!;
      table.rows.data[island]! += length * j;
      table.columns.data[island]! += 0.5 * (length * (2 * left + length - 1));
      runs.start.push(start[run]!);
      runs.stop.push(stop[run]!);
      runs.island.push(island);
    }
  }
  rowsHere[height] = runs.start.count;
}

/** Join islands of a slice with those of the slice before that lie within one row and one column of them. */
function joinSlices(
  runs: Runs, rowsBefore: Int32Array, rowsHere: Int32Array, height: number, width: number, joined: Int32Array,
): void {
  const start = runs.start.data;
  const stop = runs.stop.data;
  const island = runs.island.data;
  // Two large islands touch along many runs, one after another: joined once is enough.
  let lastA = -1;
  let lastB = -1;
  for (let j = 0; j < height; j++) {
    const bEnd = rowsHere[j + 1]!;
    if (rowsHere[j] === bEnd) continue;
    for (let near = Math.max(j - 1, 0); near < Math.min(j + 2, height); near++) {
      let a = rowsBefore[near]!;
      const aEnd = rowsBefore[near + 1]!;
      let b = rowsHere[j]!;
      const shift = (j - near) * width;
      while (a < aEnd && b < bEnd) {
        const aStop = stop[a]! + shift;
        if (aStop >= start[b]! && stop[b]! >= start[a]! + shift && (island[a] !== lastA || island[b] !== lastB)) {
          lastA = island[a]!;
          lastB = island[b]!;
          unite(joined, lastA, lastB);
        }
        if (aStop <= stop[b]!) a++;
        else b++;
      }
    }
  }
}

function numbered(joined: Int32Array, count: number): { group: Int32Array; groups: number } {
  const group = new Int32Array(count);
  let groups = 0;
  for (let n = 0; n < count; n++) {
    const root = rootOf(joined, n);
    group[n] = root === n ? groups++ : group[root]!;
  }
  return { group, groups };
}
