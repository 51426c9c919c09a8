// What this is, whose work it rests on, and the way out; stands in OHIF's menu instead of its own page.
import { useSyncExternalStore } from 'react';

import { nameOf, onSessionChange, session } from '../../../shared/session';
import { leave, leaveText } from './keeper';

export function About() {
  const who = useSyncExternalStore(onSessionChange, session);
  return (
    <div className="rl-panel" data-cy="rl-about">
      <p className="rl-notice">Research use only, not a medical device.</p>
      <p>radloop shows what AI found in a study, lets a reader correct it, and keeps the correction.</p>
      <p className="rl-dim">Viewer: OHIF 3.13.2 (MIT licence) with Cornerstone3D 5.6.8.</p>
      <div className="rl-row rl-spread">
        <span>{who === null ? 'Nobody is logged in.' : `${nameOf(who)} (${who.user.role})`}</span>
        <button type="button" data-cy="rl-logout" onClick={() => void leave()}>
          {leaveText()}
        </button>
      </div>
    </div>
  );
}

/** What OHIF's menu asks of such a page; the title is read each time the menu opens. */
Object.defineProperty(About, 'menuTitle', { get: () => `About, ${leaveText().toLowerCase()}` });
Object.defineProperty(About, 'title', { value: 'radloop' });
