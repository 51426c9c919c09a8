import { useEffect, useState, useSyncExternalStore } from 'react';
import { onSessionChange, session } from '../../../shared/session';
import type { User } from '../../../shared/types';
import { type Desk, openDesk } from '../outbox/desk';
import type { OutboxView } from '../outbox/outbox';

const NOTHING: OutboxView = { mine: [], others: 0, lasting: true, unlocked: false };
const quiet = () => () => undefined;
const nothing = () => NOTHING;

/** The outbox of this page, null until it is open, and how it stands. */
export function useDesk(): { readonly desk: Desk | null; readonly view: OutboxView } {
  const [desk, setDesk] = useState<Desk | null>(null);
  useEffect(() => {
    let gone = false;
    void openDesk().then((opened) => {
      if (!gone) setDesk(opened);
    });
    return () => {
      gone = true;
    };
  }, []);
  const view = useSyncExternalStore(desk?.outbox.subscribe ?? quiet, desk?.outbox.view ?? nothing);
  return { desk, view };
}

let lastUser: User | null = null;

/** Who works here: whoever is logged in, and after a session has ended whoever was, until someone else logs in. */
function userAtWork(): User | null {
  lastUser = session()?.user ?? lastUser;
  return lastUser;
}

export function useUser(): User | null {
  return useSyncExternalStore(onSessionChange, userAtWork);
}
