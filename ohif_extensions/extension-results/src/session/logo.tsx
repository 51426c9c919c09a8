// The name of the product and of who is logged in, where OHIF has its logo.
import { useSyncExternalStore } from 'react';

import { nameOf, onSessionChange, session } from '../../../shared/session';

function Logo() {
  const who = useSyncExternalStore(onSessionChange, session);
  return (
    <span className="rl-logo">
      radloop
      <small data-cy="rl-user">{nameOf(who)}</small>
    </span>
  );
}

/** Puts the name where app-config.js lets the host ask for it. */
export function brand(): void {
  const host = (window as { radloopHost?: { logo?: () => unknown } }).radloopHost;
  if (host) {
    host.logo = () => <Logo />;
  }
}
