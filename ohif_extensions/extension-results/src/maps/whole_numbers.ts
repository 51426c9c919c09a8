// Values of a map as whole numbers: the viewer's drawing by processor looks colours up by them, and shows fractions as one colour.

/** Pixels, and how they become values: times slope plus intercept. */
export interface Stored {
  scalarData: Float32Array | Int16Array;
  slope: number;
  intercept: number;
}

const STEPS = 32_000;

/** Within a 64,000th of their range. */
export function wholeNumbers(values: Float32Array): Stored {
  let low = Infinity;
  let high = -Infinity;
  for (const value of values) {
    low = Math.min(low, value);
    high = Math.max(high, value);
  }
  if (!(high > low)) {
    return { scalarData: new Int16Array(values.length), slope: 1, intercept: Number.isFinite(low) ? low : 0 };
  }
  const intercept = (low + high) / 2;
  const slope = (high - low) / (2 * STEPS);
  return { scalarData: Int16Array.from(values, value => Math.round((value - intercept) / slope)), slope, intercept };
}
