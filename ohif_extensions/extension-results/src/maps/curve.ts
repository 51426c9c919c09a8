// Where the points of a curve lie in a small chart, and which numbers stand at its axes.

export interface Chart {
  /** Points as SVG takes them. */
  line: string;
  low: number;
  high: number;
  seconds: number;
  /** Where the axis of no change lies, if within the chart. */
  zero: number | null;
}

/** A curve within `width` and `height`; time runs from its first point, values from the lowest, 0 at most, to the highest. */
export function chartOf(timesS: readonly number[], values: readonly number[], width: number, height: number): Chart {
  const start = timesS[0] ?? 0;
  const seconds = Math.max((timesS.at(-1) ?? 0) - start, Number.MIN_VALUE);
  const low = Math.min(0, ...values);
  const high = Math.max(low + Number.EPSILON, ...values);
  const y = (value: number): number => height - ((value - low) / (high - low)) * height;
  const points = timesS.map((time, n) => `${round(((time - start) / seconds) * width)},${round(y(values[n] ?? 0))}`);
  return { line: points.join(' '), low, high, seconds, zero: low < 0 ? round(y(0)) : null };
}

function round(value: number): number {
  return Math.round(value * 10) / 10;
}
