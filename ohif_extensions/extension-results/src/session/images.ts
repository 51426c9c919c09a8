// Images that were refused while nobody was logged in: the viewer would show them only when its reader scrolls away and back.
import { cornerstoneCore } from '../../../shared/viewer/cornerstone';

/** What is used of a viewport that shows one image after another; others have no such methods. */
interface Stack {
  getCurrentImageId?(): string | undefined;
  loadImages?(imageIds: readonly string[], listener: unknown): Promise<unknown>;
}

/** Loads again what each viewport should show and does not; with as few requests as there are such viewports. */
export async function loadRefused(): Promise<void> {
  const core = cornerstoneCore();
  await Promise.all(
    core.viewports().map(async one => {
      const viewport = one as Stack;
      const imageId = viewport.getCurrentImageId?.();
      if (imageId !== undefined && !core.isLoaded(imageId)) {
        // A viewport is its own listener, as when it loads by itself; a failure is told to it and shown by it.
        await viewport.loadImages?.([imageId], viewport);
      }
    })
  );
}
