// Watches the session: knows who is logged in, and puts the login over the viewer when that ends.
import { createRoot, type Root } from 'react-dom/client';

import { onSession } from '../../../shared/client';
import { loadSession, logout, nameOf, onSessionChange, session } from '../../../shared/session';
import { loadRefused } from './images';
import { LoginDialog } from './LoginDialog';

let root: Root | null = null;
let place: HTMLElement | null = null;
let lastName = '';
let leaving = false;

/** Starts the watch; asks who is logged in once. */
export function keepSession(): void {
  onSessionChange(() => {
    lastName = session()?.user.name ?? lastName;
  });
  onSession('session-lost', () => {
    if (!leaving) {
      show();
    }
  });
  onSession('session-back', () => {
    hide();
    void loadRefused();
  });
  // A refusal shows the dialog; anything else is told by what is asked next.
  loadSession().catch(() => undefined);
}

function show(): void {
  if (root !== null) {
    return;
  }
  place = document.createElement('div');
  document.body.append(place);
  root = createRoot(place);
  root.render(<LoginDialog name={lastName} onDone={back} />);
}

function hide(): void {
  const old = root;
  root = null;
  place?.remove();
  place = null;
  // Not while it renders.
  setTimeout(() => old?.unmount());
}

function back(): void {
  hide();
  // The list of studies holds no work; it was refused and is asked for again.
  if (window.location.pathname === '/') {
    window.location.reload();
  }
}

/** Ends the session and goes to the page for the next reader. */
export async function leave(): Promise<void> {
  leaving = true;
  try {
    await logout();
  } finally {
    leaving = false;
  }
  window.location.assign('/login');
}

/** Text of the menu's entry. */
export function leaveText(): string {
  const name = nameOf(session());
  return name === '' ? 'Log out' : `Log out (${name})`;
}
