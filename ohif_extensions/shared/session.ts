// Who is logged in, kept in memory only: login, logout and what changes when either happens.
import { api, onSession, sessionFound, sessionLost } from './client';
import type { Session } from './types';

let current: Session | null = null;
const listeners = new Set<() => void>();

function keep(session: Session | null): void {
  current = session;
  for (const listener of [...listeners]) {
    listener();
  }
}

onSession('session-lost', () => keep(null));

/** The session known now; null before `loadSession` and after it was lost. */
export function session(): Session | null {
  return current;
}

/** Listens for another user or none; the answer stops listening. */
export function onSessionChange(listener: () => void): () => void {
  listeners.add(listener);
  return () => listeners.delete(listener);
}

/** Asks the gateway who is logged in. */
export async function loadSession(): Promise<Session> {
  const found = await api<Session>('GET', '/api/session');
  sessionFound(found);
  keep(found);
  return found;
}

export async function login(name: string, password: string): Promise<Session> {
  const found = await api<Session>('POST', '/api/login', { name, password }, { quiet: true });
  sessionFound(found);
  keep(found);
  return found;
}

/** Ends the session at the server; what waits in the browser stays there, sealed. */
export async function logout(): Promise<void> {
  await api<undefined>('POST', '/api/logout');
  sessionLost();
}

/** The name to show for who is logged in. */
export function nameOf(who: Session | null): string {
  return who === null ? '' : who.user.display_name || who.user.name;
}
