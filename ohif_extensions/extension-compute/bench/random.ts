// Numbers that look random and are the same every time.

/** Whole numbers of 32 bits from a seed (Marsaglia G. J Stat Softw 2003;8(14), xorshift). */
export function generator(seed: number): () => number {
  let state = seed >>> 0 || 1;
  return () => {
    state ^= state << 13;
    state ^= state >>> 17;
    state ^= state << 5;
    state >>>= 0;
    return state;
  };
}

/** HU from -200 to 599, and some classes. */
export function noise(voxels: number, seed: number): { values: Int16Array; classes: Uint8Array } {
  const next = generator(seed);
  const values = new Int16Array(voxels);
  const classes = new Uint8Array(voxels);
  for (let p = 0; p < voxels; p++) {
    values[p] = (next() % 800) - 200;
    classes[p] = next() % 3;
  }
  return { values, classes };
}
