// Per row of a volume: how many voxels reach a threshold, the highest of them and their sum.
import type { Values } from '../calcium/grid';
import { limitFor } from '../calcium/grid';
import { densityWeight } from '../calcium/scores';
import type { GlDevice } from './device';
import { run } from './pass';
import { Texture } from './texture';

const ROWS_A_LINE = 1024;

function shader(floats: boolean, classed: boolean): string {
  const number = floats ? 'float' : 'int';
  return `#version 300 es
precision highp float;
precision highp int;
precision highp ${floats ? '' : 'i'}sampler3D;
precision highp usampler3D;
uniform ${floats ? '' : 'i'}sampler3D values;
${classed ? 'uniform usampler3D classes;' : ''}
uniform ivec3 size;  // across, down, deep
uniform ${number} low;
uniform int chosen;
out ${floats ? 'vec4' : 'ivec4'} found;  // count, peak, sum, 0
void main() {
  int row = int(gl_FragCoord.y) * ${ROWS_A_LINE} + int(gl_FragCoord.x);
  ivec3 at = ivec3(0, row % size.y, row / size.y);
  ${number} count = ${number}(0);
  ${number} peak = ${number}(0);
  ${number} sum = ${number}(0);
  if (at.z < size.z) {
    for (; at.x < size.x; at.x++) {
      ${number} value = texelFetch(values, at, 0).r;
      bool inside = ${classed ? 'int(texelFetch(classes, at, 0).r) == chosen' : 'true'};
      if (inside && value >= low) {
        peak = count == ${number}(0) ? value : max(peak, value);
        count += ${number}(1);
        sum += value;
      }
    }
  }
  found = ${floats ? 'vec4' : 'ivec4'}(count, peak, sum, ${number}(0));
}`;
}

/** One entry for each row of each slice; count 0 where nothing reaches the threshold. */
export interface Rows {
  readonly count: Int32Array;
  readonly peak: Float64Array;
  readonly sum: Float64Array;
}

/** The specification of the shader; float sums are of float32 from left to right, as there. */
export function rowsTwin(
  values: Values, classes: Uint8Array | null, shape: readonly [number, number, number], low: number, chosen: number,
): Rows {
  const rows = shape[0] * shape[1];
  const found = { count: new Int32Array(rows), peak: new Float64Array(rows), sum: new Float64Array(rows) };
  const limit = limitFor(values, low);
  const round = values instanceof Float32Array ? Math.fround : (value: number) => value;
  for (let row = 0; row < rows; row++) {
    for (let p = row * shape[2]; p < (row + 1) * shape[2]; p++) {
      const value = values[p]!;
      if (!(value >= limit) || (classes !== null && classes[p] !== chosen)) continue;
      found.peak[row] = found.count[row] === 0 ? value : Math.max(found.peak[row]!, value);
      found.count[row]!++;
      found.sum[row] = round(found.sum[row]! + value);
    }
  }
  return found;
}

/** The same on the graphics card; the textures are the caller's. */
export function rowsOf(
  device: GlDevice, values: Texture, classes: Texture | null, shape: readonly [number, number, number], low: number, chosen: number,
): Rows {
  const floats = values.kind === 'r32f';
  const rows = shape[0] * shape[1];
  const lines = Math.ceil(rows / ROWS_A_LINE);
  const target = new Texture(device, '2d', floats ? 'rgba32f' : 'rgba32i', [ROWS_A_LINE, lines, 1]);
  const read = floats ? new Float32Array(4 * ROWS_A_LINE * lines) : new Int32Array(4 * ROWS_A_LINE * lines);
  try {
    run(device, {
      fragment: shader(floats, classes !== null),
      inputs: { values, ...(classes === null ? {} : { classes }) },
      uniforms: { size: [shape[2], shape[1], shape[0]], low: floats ? { float: low } : Math.ceil(low), chosen },
      outputs: [target],
      read: () => target.read(0, read),
    });
  } finally {
    target.release();
  }
  const column = (n: number) => (_: unknown, row: number) => read[4 * row + n]!;
  return {
    count: Int32Array.from({ length: rows }, column(0)),
    peak: Float64Array.from({ length: rows }, column(1)),
    sum: Float64Array.from({ length: rows }, column(2)),
  };
}

/** What a slice holds at or above the threshold; weight 0 where nothing does. */
export interface SliceTotals {
  readonly k: number;
  readonly count: number;
  readonly peakHu: number;
  readonly weight: number;
  readonly totalHu: number;
}

/** Rows summed up by slice. */
export function slicesOf(rows: Rows, shape: readonly [number, number, number], stepsHu: readonly number[]): SliceTotals[] {
  return Array.from({ length: shape[0] }, (_, k) => {
    let [count, peakHu, totalHu] = [0, -Infinity, 0];
    for (let row = k * shape[1]; row < (k + 1) * shape[1]; row++) {
      if (rows.count[row] === 0) continue;
      count += rows.count[row]!;
      peakHu = Math.max(peakHu, rows.peak[row]!);
      totalHu += rows.sum[row]!;
    }
    return { k, count, peakHu, weight: densityWeight(peakHu, stepsHu), totalHu };
  });
}
