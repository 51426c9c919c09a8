// What the page and the calcium worker say to each other.
import type { AddedLesion, CalciumRequest, CalciumResult, ClassedVolume, Rule, SliceMask } from './calcium/core';
import type { Voxel } from './calcium/grid';
import type { Choice } from './gl/listing';

export type ToWorker =
  | { readonly kind: 'volume'; readonly volume: ClassedVolume; readonly rule: Rule; readonly newest: Int32Array | null }
  | { readonly kind: 'compute'; readonly id: number; readonly request: CalciumRequest }
  | { readonly kind: 'add'; readonly id: number; readonly voxel: Voxel; readonly thresholdHu: number }
  | { readonly kind: 'values'; readonly id: number; readonly voxels: readonly Voxel[] };

export type FromWorker =
  | { readonly kind: 'alive' }
  | { readonly kind: 'ready'; readonly listed: number; readonly millis: number; readonly choice: Choice }
  | { readonly kind: 'slice'; readonly id: number; readonly mask: SliceMask }
  | { readonly kind: 'result'; readonly id: number; readonly result: CalciumResult }
  | { readonly kind: 'superseded'; readonly id: number }
  | { readonly kind: 'added'; readonly id: number; readonly lesion: AddedLesion }
  | { readonly kind: 'values'; readonly id: number; readonly values: readonly number[] }
  | { readonly kind: 'failed'; readonly id: number; readonly code: ProblemCode };

/** Why the engine cannot answer. */
export type ProblemCode = 'memory' | 'threshold' | 'worker' | 'closed';

/** An error as a code; a RangeError that is none of ours is memory that could not be had. */
export function problemOf(error: unknown): ProblemCode {
  if (!(error instanceof RangeError)) return 'worker';
  return error.message === 'threshold' ? 'threshold' : 'memory';
}
