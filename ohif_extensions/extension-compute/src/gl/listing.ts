// Candidates of a volume found by the graphics card, slab by slab; used only where a trial shows that it is right and faster.
import type { Candidates, Listed } from '../calcium/candidates';
import { Growing, LOWEST_HU, collect } from '../calcium/candidates';
import type { Values } from '../calcium/grid';
import { BitsPass } from './bits';
import { GlDevice } from './device';
import { GlProblem } from './problem';

/** Voxels in a slab: 64 slices of 512 x 512, 50 MB of textures. */
const SLAB_VOXELS = 2 ** 24;

type Shape = readonly [number, number, number];

/** The candidates of both classes, as `collect` gives them; throws `GlProblem`. */
export function collectByGl(
  device: GlDevice, values: Values, classes: Uint8Array | null, shape: Shape, floorHu = LOWEST_HU, slabVoxels = SLAB_VOXELS,
): Listed {
  const plane = shape[1] * shape[2];
  const deep = Math.max(1, Math.min(shape[0], Math.floor(slabVoxels / plane)));
  const pass = new BitsPass(device, [deep, shape[1], shape[2]], values instanceof Float32Array, classes !== null);
  const region = new Growing(shape[0], values);
  const setAside = new Growing(shape[0], values);
  try {
    for (let k = 0; k < shape[0]; k += deep) {
      const [from, to] = [k * plane, Math.min(k + deep, shape[0]) * plane];
      const own = values.subarray(from, to);
      const bits = pass.bits(own, classes?.subarray(from, to) ?? null, floorHu);
      append(region, bits.region, own, k, plane);
      append(setAside, bits.setAside, own, k, plane);
    }
  } finally {
    pass.release();
  }
  return { region: region.done(), setAside: setAside.done() };
}

/** Voxels whose bits are set, of slices from `k` on. */
function append(into: Growing, bits: Uint32Array, values: Values, k: number, plane: number): void {
  const slices = values.length / plane;
  let [slice, base] = [0, 0];
  for (let word = 0; word < bits.length; word++) {
    let left = bits[word]!;
    if (left === 0) continue;
    into.reserve(32);
    while (left !== 0) {
      const flat = 32 * word + 31 - Math.clz32(left & -left);
      left &= left - 1;
      while (flat >= base + plane) {
        into.starts[k + ++slice] = into.count;
        base += plane;
      }
      into.at[into.count] = flat - base;
      into.values[into.count++] = values[flat]!;
    }
  }
  while (slice < slices) into.starts[k + ++slice] = into.count;
}

/** Who listed the candidates, and why. */
export type ListedBy = 'webgl2' | 'processor';
export type Why = 'faster' | 'slower' | 'differs' | 'software' | 'small' | 'no_webgl2' | 'failed';

export interface Choice {
  readonly by: ListedBy;
  readonly why: Why;
  /** The graphics card as the browser names it; "" where there is none. */
  readonly renderer: string;
}

/** Below this a processor is done before a context is open. */
const SMALL_VOXELS = 2 ** 25;
/** Slices of the trial that both do. */
const TRIAL_SLICES = 16;

/** The candidates by the graphics card where a trial on some slices shows that it finds the same in less time; else by the processor. */
export function collectByBest(values: Values, classes: Uint8Array | null, shape: Shape): { readonly listed: Listed; readonly choice: Choice } {
  const byProcessor = (why: Why, renderer = '') => ({
    listed: collect(values, classes, shape), choice: { by: 'processor' as const, why, renderer },
  });
  if (values.length < SMALL_VOXELS) return byProcessor('small');
  let device: GlDevice;
  try {
    device = GlDevice.open();
  } catch {
    return byProcessor('no_webgl2');
  }
  const { renderer, software } = device;
  try {
    if (software) return byProcessor('software', renderer);
    const why = trial(device, values, classes, shape);
    if (why !== 'faster') return byProcessor(why, renderer);
    return { listed: collectByGl(device, values, classes, shape), choice: { by: 'webgl2', why, renderer } };
  } catch (error) {
    if (error instanceof GlProblem) return byProcessor('failed', renderer);
    throw error;
  } finally {
    device.close();
  }
}

function trial(device: GlDevice, values: Values, classes: Uint8Array | null, shape: Shape): Why {
  const [rows, columns] = [shape[1], shape[2]];
  const slices = Math.min(TRIAL_SLICES, shape[0]);
  const first = Math.floor((shape[0] - slices) / 2) * rows * columns;
  const part = values.subarray(first, first + slices * rows * columns);
  const marked = classes?.subarray(first, first + slices * rows * columns) ?? null;
  const timed = (list: () => Listed): { listed: Listed; millis: number } => {
    list();
    const started = performance.now();
    const listed = list();
    return { listed, millis: performance.now() - started };
  };
  const processor = timed(() => collect(part, marked, [slices, rows, columns]));
  const card = timed(() => collectByGl(device, part, marked, [slices, rows, columns]));
  const same = sameCandidates(processor.listed.region, card.listed.region) && sameCandidates(processor.listed.setAside, card.listed.setAside);
  if (!same) return 'differs';
  return card.millis < processor.millis ? 'faster' : 'slower';
}

/** Whether both list the same voxels with the same values. */
export function sameCandidates(one: Candidates, other: Candidates): boolean {
  const same = (a: ArrayLike<number>, b: ArrayLike<number>) => a.length === b.length && Array.prototype.every.call(a, (value, n) => value === b[n]);
  return same(one.starts, other.starts) && same(one.at, other.at) && same(one.values, other.values);
}
