// Says that the images are gone from the screen, and that nothing else is.
import { useSyncExternalStore } from 'react';

import { onPictures, picturesLost } from './pictures';

export function LostNotice() {
  if (!useSyncExternalStore(onPictures, picturesLost)) {
    return null;
  }
  return (
    <div className="rl-error" role="alert" data-cy="rl-images-lost" data-code="context_lost">
      <p>
        The graphics driver has let go of the images. Numbers and unsaved work are kept. The images come back by themselves as soon as the driver allows it; if they
        do not, load the page anew. <code>context_lost</code>
      </p>
      <p>
        <button type="button" data-cy="rl-images-again" onClick={() => location.reload()}>
          Load images again
        </button>
      </p>
    </div>
  );
}
