/** The outbox of this page, joined to the session, the network and the other pages of this browser. */

import { api, onSession, paths } from '../../../shared/client';
import { loadSession, onSessionChange, session } from '../../../shared/session';
import type { Correction, OutboxKey, ReaderKey } from '../../../shared/types';
import { type Cipher, fromBase64, makeCipher, openingWith } from './cipher';
import { type Drafts, draftsOf } from './draft';
import { deliver } from './mail';
import { type Letter, Outbox, pauseMs } from './outbox';
import { type EntryStore, memoryStore, openBrowserStore } from './store';

export interface Desk {
  readonly outbox: Outbox;
  /** Null while no key has come. */
  drafts(): Drafts | null;
  /** Hears of every correction that the server has taken from here; the answer stops listening. */
  onKept(listener: (letter: Letter, correction: Correction) => void): () => void;
}

const LOCK = 'radloop-outbox';
let opened: Promise<Desk> | null = null;

/** The one desk of this page; opened at the first call. */
export function openDesk(): Promise<Desk> {
  opened ??= open();
  return opened;
}

async function open(): Promise<Desk> {
  const store = await openBrowserStore().catch(() => memoryStore());
  const keptListeners = new Set<(letter: Letter, correction: Correction) => void>();
  const pages = typeof BroadcastChannel === 'undefined' ? null : new BroadcastChannel(LOCK);
  const announcing = announced(store, () => pages?.postMessage('changed'));
  let cipher: Cipher | null = null;
  let tries = 0;

  const outbox = new Outbox({
    store: announcing,
    send: async (letter, reader) => {
      const delivery = await deliver(letter, reader);
      if (delivery.kind === 'login' && delivery.code === 'other_user') void loadSession().catch(() => undefined);
      return delivery;
    },
    kept: (letter, answer) => keptListeners.forEach((listener) => listener(letter, answer as Correction)),
    alone: oneAtATime,
  });

  async function greet(): Promise<void> {
    const reader = session()?.user.id;
    if (reader === undefined) return outbox.pause();
    if (cipher?.owner !== reader) cipher = null;
    try {
      await outbox.use(reader);
      cipher ??= await keyOf(reader);
      tries = 0;
      if (session()?.user.id === reader) await outbox.unlock(cipher);
    } catch {
      tries += 1;
      setTimeout(() => void greet(), pauseMs(tries, Math.random()));
    }
  }

  if (pages) pages.onmessage = () => void outbox.reload();
  onSessionChange(() => void greet());
  onSession('session-back', () => void greet());
  window.addEventListener('online', () => void outbox.flush());
  document.addEventListener('visibilitychange', () => {
    if (document.visibilityState === 'visible') void outbox.reload().then(() => outbox.flush());
  });
  window.addEventListener('beforeunload', (event) => {
    if (outbox.view().mine.some((each) => !each.lasting)) event.preventDefault();
  });
  if (session() === null) await loadSession().catch(() => undefined);
  void greet();

  return {
    outbox,
    drafts: () => (cipher ? draftsOf(store, cipher) : null),
    onKept(listener) {
      keptListeners.add(listener);
      return () => keptListeners.delete(listener);
    },
  };
}

async function keyOf(reader: string): Promise<Cipher> {
  const { user, older, ...newest } = await api<OutboxKey>('GET', paths.outboxKey);
  // Another page may have logged in as someone else meanwhile: what their key seals, this reader never opens again.
  if (user !== reader) {
    void loadSession().catch(() => undefined);
    throw new Error('other_user');
  }
  const cipherOf = ({ key_id, key }: ReaderKey) => makeCipher(reader, key_id, fromBase64(key));
  return openingWith(await cipherOf(newest), await Promise.all(older.map(cipherOf)));
}

function announced(store: EntryStore, tell: () => void): EntryStore {
  return {
    ...store,
    put: (entry) => store.put(entry).then(tell),
    remove: (kind, id) => store.remove(kind, id).then(tell),
  };
}

/** One page of a browser sends at a time; another one would only repeat it. */
async function oneAtATime(work: () => Promise<void>): Promise<void> {
  if (!('locks' in navigator)) return work();
  await navigator.locks.request(LOCK, { ifAvailable: true }, async (lock) => {
    if (lock) await work();
  });
}
