/** Corrections on their way to the server: sealed first, then sent, gone only when the server has them. */

import { type Cipher } from './cipher';
import { type Entry, type EntryStore } from './store';

/** How the server answered, as far as the outbox must know. */
export type Delivery =
  | { readonly kind: 'kept'; readonly answer: unknown }
  | { readonly kind: 'later'; readonly code: string }
  | { readonly kind: 'login'; readonly code: string }
  | { readonly kind: 'refused'; readonly code: string; readonly status: number };

/** What one waiting correction is made of. */
export interface Letter {
  readonly id: string;
  readonly study: string;
  readonly body: unknown;
  readonly madeAt: string;
  readonly headline: string;
}

export type LetterState = 'waiting' | 'sending' | 'login' | 'refused' | 'locked' | 'unreadable';

/** A letter and how it stands. */
export interface Waiting {
  readonly id: string;
  readonly state: LetterState;
  readonly letter: Letter | null;
  /** Why it was not taken; "" when it was not tried or could not be. */
  readonly code: string;
  readonly tries: number;
  /** False when it lives only as long as this page. */
  readonly lasting: boolean;
}

/** What the panel shows. */
export interface OutboxView {
  readonly mine: readonly Waiting[];
  /** How many lie here of other readers; nobody but they can read or send them. */
  readonly others: number;
  readonly lasting: boolean;
  readonly unlocked: boolean;
}

export interface OutboxParts {
  readonly store: EntryStore;
  readonly send: (letter: Letter, reader: string) => Promise<Delivery>;
  readonly kept: (letter: Letter, answer: unknown) => void;
  readonly later?: (work: () => void, afterMs: number) => () => void;
  readonly random?: () => number;
  /** Runs `work` unless another page of this browser is sending. */
  readonly alone?: (work: () => Promise<void>) => Promise<void>;
}

const FIRST_PAUSE_MS = 2_000;
const LONGEST_PAUSE_MS = 300_000;

/** Milliseconds before try number `tries` + 1: doubling, capped, with a fifth of jitter. */
export function pauseMs(tries: number, random: number): number {
  const pause = Math.min(LONGEST_PAUSE_MS, FIRST_PAUSE_MS * 2 ** Math.max(0, tries - 1));
  return Math.round(pause * (0.9 + 0.2 * random));
}

interface Held {
  owner: string;
  letter: Letter | null;
  state: LetterState;
  code: string;
  tries: number;
  lasting: boolean;
}

interface Sealed {
  readonly letter: Letter;
  readonly state: 'waiting' | 'refused';
  readonly code: string;
}

/** The outbox of this page. One reader at a time; the letters of others stay sealed where they are. */
export class Outbox {
  private reader: string | null = null;
  private cipher: Cipher | null = null;
  private held = new Map<string, Held>();
  private others = 0;
  private running: Promise<void> | null = null;
  private again = false;
  private cancel: (() => void) | null = null;
  private listeners = new Set<() => void>();
  private current: OutboxView;

  constructor(private readonly parts: OutboxParts) {
    this.current = this.picture();
  }

  /** The same object until something changes. */
  readonly view = (): OutboxView => this.current;

  readonly subscribe = (listener: () => void): (() => void) => {
    this.listeners.add(listener);
    return () => this.listeners.delete(listener);
  };

  /** Who is logged in here now. Another one than before: keys and plain letters leave the memory, sealed ones stay. */
  async use(reader: string | null): Promise<void> {
    if (this.reader !== reader) this.forget();
    this.reader = reader;
    await this.reload();
  }

  /** The reader's key has come: what they left here is read, what is only in memory is kept, all is sent. */
  async unlock(cipher: Cipher): Promise<void> {
    if (this.reader !== cipher.owner) await this.use(cipher.owner);
    this.cipher = cipher;
    for (const held of this.mine()) if (!held.lasting && held.letter) await this.keep(held);
    await this.reload();
    for (const held of this.mine()) if (held.state === 'login') held.state = 'waiting';
    this.changed();
    this.wake();
  }

  /** The login ended in the middle of work. What waits goes on when the same reader is back. */
  pause(): void {
    this.stopClock();
    for (const held of this.mine()) if (held.state === 'waiting') held.state = 'login';
    this.changed();
  }

  /** Keeps a letter, then sends it. Resolves once it is kept (or known to be held by this page alone). */
  async add(letter: Letter): Promise<void> {
    if (this.reader === null) throw new Error('outbox_without_reader');
    const held: Held = { owner: this.reader, letter, state: 'waiting', code: '', tries: 0, lasting: false };
    this.held.set(letter.id, held);
    await this.keep(held);
    this.changed();
    this.wake();
  }

  /** Tries everything that waits now; resolves when nothing is being sent any more. */
  flush(): Promise<void> {
    this.again = true;
    this.running ??= this.runAll();
    return this.running;
  }

  /** A refused letter is tried once more because its reader wants it. */
  async retry(id: string): Promise<void> {
    const held = this.held.get(id);
    if (!held?.letter || held.state === 'sending') return;
    held.state = 'waiting';
    held.code = '';
    await this.keep(held);
    this.changed();
    await this.flush();
  }

  /** The only way a letter leaves unsent: its reader says so. */
  async discard(id: string): Promise<void> {
    if (!this.held.has(id)) return;
    await this.parts.store.remove('correction', id);
    this.held.delete(id);
    this.changed();
  }

  /** Another page of this browser changed the store. */
  async reload(): Promise<void> {
    let entries: Entry[];
    try {
      entries = (await this.parts.store.all()).filter((entry) => entry.kind === 'correction');
    } catch {
      return;
    }
    const mine = entries.filter((entry) => entry.owner === this.reader);
    this.others = entries.length - mine.length;
    for (const [id, held] of this.held) {
      if (held.lasting && held.state !== 'sending' && !mine.some((entry) => entry.id === id)) this.held.delete(id);
    }
    for (const entry of mine) {
      const known = this.held.get(entry.id);
      if (!known || known.state === 'locked') await this.take(entry);
    }
    this.changed();
  }

  /** Reads an entry; one that an earlier key sealed is sealed anew, for the server will not keep that key for ever. */
  private async take(entry: Entry): Promise<void> {
    const held = await this.read(entry);
    this.held.set(entry.id, held);
    if (!held.letter || entry.keyId === this.cipher?.keyId) return;
    const { lasting } = held;
    await this.keep(held);
    // Where that fails it still lies there as it was.
    held.lasting ||= lasting;
  }

  private async read(entry: Entry): Promise<Held> {
    const { kind, owner, id } = entry;
    const closed = { owner, letter: null, tries: 0, lasting: this.parts.store.lasting };
    if (!this.cipher) return { ...closed, state: 'locked', code: '' };
    try {
      const { letter, state, code } = (await this.cipher.open({ kind, owner, id }, entry.sealed)) as Sealed;
      if (letter.id !== id) return { ...closed, state: 'unreadable', code: 'seal_broken' };
      return { ...closed, letter, state, code };
    } catch {
      return { ...closed, state: 'unreadable', code: 'seal_broken' };
    }
  }

  private async keep(held: Held): Promise<void> {
    const { letter } = held;
    if (!letter || this.cipher?.owner !== held.owner) return;
    const { owner, keyId } = this.cipher;
    const place = { kind: 'correction', owner, id: letter.id } as const;
    const state = held.state === 'refused' ? 'refused' : 'waiting';
    try {
      const content: Sealed = { letter, state, code: held.code };
      await this.parts.store.put({ ...place, keyId, sealed: await this.cipher.seal(place, content) });
      held.lasting = this.parts.store.lasting;
    } catch {
      held.lasting = false;
    }
  }

  private async runAll(): Promise<void> {
    this.stopClock();
    try {
      while (this.again) {
        this.again = false;
        await (this.parts.alone ? this.parts.alone(() => this.run()) : this.run());
      }
    } finally {
      this.running = null;
      this.schedule();
    }
  }

  private async run(): Promise<void> {
    const reader = this.reader;
    for (const [id, held] of [...this.held]) {
      if (this.reader !== reader) return; // another reader has come in between
      if (held.owner !== reader || held.state !== 'waiting' || !held.letter) continue;
      held.state = 'sending';
      this.changed();
      const delivery = await this.deliver(held.letter, held.owner);
      if (delivery.kind === 'kept') await this.gone(id, held.letter, delivery.answer);
      else await this.notGone(held, delivery);
      this.changed();
      if (delivery.kind === 'login') return;
    }
  }

  private async deliver(letter: Letter, reader: string): Promise<Delivery> {
    try {
      return await this.parts.send(letter, reader);
    } catch {
      return { kind: 'later', code: 'server_unreachable' };
    }
  }

  private async gone(id: string, letter: Letter, answer: unknown): Promise<void> {
    // Removing may fail; then it is sent once more, and the server answers with the row it has.
    await this.parts.store.remove('correction', id).catch(() => undefined);
    this.held.delete(id);
    this.parts.kept(letter, answer);
  }

  private async notGone(held: Held, delivery: Exclude<Delivery, { kind: 'kept' }>): Promise<void> {
    held.tries += 1;
    held.code = delivery.code;
    held.state = delivery.kind === 'later' ? 'waiting' : delivery.kind;
    if (held.state === 'refused' || !held.lasting) await this.keep(held);
  }

  private wake(): void {
    void this.flush();
  }

  private schedule(): void {
    this.stopClock();
    const waiting = this.mine().filter((held) => held.state === 'waiting' && held.letter);
    if (!waiting.length) return;
    const tries = Math.min(...waiting.map((held) => held.tries));
    const later = this.parts.later ?? afterwards;
    this.cancel = later(() => this.wake(), pauseMs(tries, (this.parts.random ?? Math.random)()));
  }

  private stopClock(): void {
    this.cancel?.();
    this.cancel = null;
  }

  private mine(): Held[] {
    return [...this.held.values()].filter((held) => held.owner === this.reader);
  }

  private forget(): void {
    this.stopClock();
    this.cipher = null;
    // What could not be kept would be lost here: it stays with the page until its reader is back.
    for (const [id, held] of this.held) if (held.lasting) this.held.delete(id);
  }

  private changed(): void {
    this.current = this.picture();
    for (const listener of this.listeners) listener();
  }

  private picture(): OutboxView {
    const own = [...this.held].filter(([, held]) => held.owner === this.reader);
    const mine = own.map(([id, held]) => ({
      id,
      state: held.state,
      letter: held.letter,
      code: held.code,
      tries: held.tries,
      lasting: held.lasting,
    }));
    const foreign = [...this.held.values()].filter((held) => held.owner !== this.reader && !held.lasting).length;
    return { mine, others: this.others + foreign, lasting: this.parts.store.lasting, unlocked: this.cipher !== null };
  }
}

function afterwards(work: () => void, afterMs: number): () => void {
  const timer = setTimeout(work, afterMs);
  return () => clearTimeout(timer);
}
