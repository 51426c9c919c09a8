// Where an image lies in the patient, as its metadata say.
import { cornerstoneCore } from './cornerstone';

export type Point = readonly number[];

interface Plane {
  imagePositionPatient?: Point;
  imageOrientationPatient?: Point;
}

function planeOf(imageId: string): Plane | undefined {
  return cornerstoneCore().metaData.get('imagePlaneModule', imageId) as Plane | undefined;
}

/** The middle of the first pixel, in mm. */
export function cornerOf(imageId: string): Point | undefined {
  return planeOf(imageId)?.imagePositionPatient;
}

/** From one side of a stack to the other, as the frames of a map stand; as they were where one does not say where it lies. */
export function inSpace(imageIds: readonly string[]): string[] {
  const turn = planeOf(imageIds[0] ?? '')?.imageOrientationPatient;
  const heights = new Map(imageIds.map(imageId => [imageId, turn ? height(cornerOf(imageId), turn) : NaN]));
  if ([...heights.values()].some(Number.isNaN)) {
    return [...imageIds];
  }
  return [...imageIds].sort((left, right) => (heights.get(left) ?? 0) - (heights.get(right) ?? 0));
}

function height(corner: Point | undefined, turn: Point): number {
  const [a = 0, b = 0, c = 0, d = 0, e = 0, f = 0] = turn;
  const [x = NaN, y = NaN, z = NaN] = corner ?? [];
  return x * (b * f - c * e) + y * (c * d - a * f) + z * (a * e - b * d);
}
