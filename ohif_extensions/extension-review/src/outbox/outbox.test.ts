import { IDBFactory } from 'fake-indexeddb';
import { beforeEach, describe, expect, it } from 'vitest';
import { makeCipher, openingWith } from './cipher';
import { Outbox, pauseMs, type Delivery, type Letter } from './outbox';
import { memoryStore, openBrowserStore, type EntryStore } from './store';

const kept: Delivery = { kind: 'kept', answer: null };
const unreachable: Delivery = { kind: 'later', code: 'unreachable' };
const conflict: Delivery = { kind: 'refused', code: 'result_superseded', status: 409 };

const letter = (id: string): Letter => ({
  id,
  study: '1.2.840.113619.2.55',
  body: { note: 'Sternum' },
  madeAt: '2026-03-14T09:26:53Z',
  headline: 'modified',
});

const cipherOf = (reader: string) => makeCipher(reader, 'k1', new Uint8Array(32).fill(reader.length + reader.charCodeAt(0)));

/** A page with an outbox: what it sent, what the server answers, and a clock moved by hand. */
function page(store: EntryStore, answers: (letter: Letter) => Delivery | Promise<Delivery>) {
  const sent: string[] = [];
  const arrived: string[] = [];
  const timers: { work: () => void; afterMs: number }[] = [];
  const outbox = new Outbox({
    store,
    send: async (each) => {
      sent.push(each.id);
      return answers(each);
    },
    kept: (each) => arrived.push(each.id),
    later: (work, afterMs) => {
      const timer = { work, afterMs };
      timers.push(timer);
      return () => void timers.splice(timers.indexOf(timer), 1);
    },
    random: () => 0.5,
  });
  return { outbox, sent, arrived, timers };
}

const states = (outbox: Outbox) => outbox.view().mine.map((each) => `${each.id} ${each.state}`);

describe('the outbox', () => {
  let store: EntryStore;
  beforeEach(async () => {
    store = await openBrowserStore(new IDBFactory());
  });

  it('keeps a correction before it is sent, and forgets it when the server has it', async () => {
    const lying: number[] = [];
    const one = page(store, async () => {
      lying.push((await store.all()).length);
      return kept;
    });
    await one.outbox.unlock(await cipherOf('anna'));
    await one.outbox.add(letter('a'));
    await one.outbox.flush();
    expect(lying).toEqual([1]);
    expect(one.arrived).toEqual(['a']);
    expect(await store.all()).toEqual([]);
    expect(one.outbox.view().mine).toEqual([]);
  });

  it('lets nothing of a correction lie readable in the browser', async () => {
    const one = page(store, () => unreachable);
    await one.outbox.unlock(await cipherOf('anna'));
    await one.outbox.add(letter('a'));
    await one.outbox.flush();
    const [entry] = await store.all();
    expect(Object.keys(entry ?? {}).sort()).toEqual(['id', 'keyId', 'kind', 'owner', 'sealed']);
    expect(new TextDecoder('latin1').decode(entry?.sealed)).not.toMatch(/1\.2\.840|Sternum|modified/);
  });

  it('waits longer after each try while the server is gone, and sends at once when it is back', async () => {
    let gone = true;
    const one = page(store, () => (gone ? unreachable : kept));
    await one.outbox.unlock(await cipherOf('anna'));
    await one.outbox.add(letter('a'));
    await one.outbox.flush();
    await one.outbox.flush();
    expect(states(one.outbox)).toEqual(['a waiting']);
    expect(one.timers).toHaveLength(1);
    gone = false;
    await one.outbox.flush();
    expect(one.arrived).toEqual(['a']);
    expect(one.timers).toHaveLength(0);
    expect([1, 2, 3, 20].map((tries) => pauseMs(tries, 0.5))).toEqual([2000, 4000, 8000, 300000]);
  });

  it('survives a reload, and the same id is sent again', async () => {
    const before = page(store, () => unreachable);
    await before.outbox.unlock(await cipherOf('anna'));
    await before.outbox.add(letter('a'));
    await before.outbox.flush();
    const after = page(store, () => kept);
    await after.outbox.unlock(await cipherOf('anna'));
    await after.outbox.flush();
    expect(after.sent).toEqual(['a']);
    expect(await store.all()).toEqual([]);
  });

  it('seals anew what an earlier key had sealed, also what was refused, and loses neither to a full store', async () => {
    const before = page(store, (each) => (each.id === 'a' ? unreachable : conflict));
    const old = await cipherOf('anna');
    await before.outbox.unlock(old);
    await before.outbox.add(letter('a'));
    await before.outbox.add(letter('b'));
    await before.outbox.flush();
    const renewed = openingWith(await makeCipher('anna', 'k2', new Uint8Array(32).fill(9)), [old]);
    const full = page({ ...store, put: () => Promise.reject(new Error('full')) }, () => unreachable);
    await full.outbox.unlock(renewed);
    expect(full.outbox.view().mine.map((each) => each.lasting)).toEqual([true, true]);
    expect((await store.all()).map((entry) => entry.keyId)).toEqual(['k1', 'k1']);
    const after = page(store, () => unreachable);
    await after.outbox.unlock(renewed);
    await after.outbox.flush();
    expect(states(after.outbox)).toEqual(['a waiting', 'b refused']);
    expect((await store.all()).map((entry) => entry.keyId)).toEqual(['k2', 'k2']);
    // Now the earlier key may go.
    const later = page(store, () => kept);
    await later.outbox.unlock(await makeCipher('anna', 'k2', new Uint8Array(32).fill(9)));
    await later.outbox.flush();
    expect(later.arrived).toEqual(['a']);
  });

  it('holds still when the login has ended, and goes on after the same reader is back', async () => {
    let loggedIn = false;
    const one = page(store, () => (loggedIn ? kept : { kind: 'login', code: 'login_needed' }));
    await one.outbox.unlock(await cipherOf('anna'));
    await one.outbox.add(letter('a'));
    await one.outbox.add(letter('b'));
    await one.outbox.flush();
    one.outbox.pause();
    expect(states(one.outbox)).toEqual(['a login', 'b login']);
    expect(one.timers).toHaveLength(0);
    loggedIn = true;
    await one.outbox.unlock(await cipherOf('anna'));
    await one.outbox.flush();
    expect(one.arrived).toEqual(['a', 'b']);
  });

  it('neither shows nor sends what another reader left, and counts it', async () => {
    const anna = page(store, () => unreachable);
    await anna.outbox.unlock(await cipherOf('anna'));
    await anna.outbox.add(letter('a'));
    await anna.outbox.flush();
    const bert = page(store, () => kept);
    await bert.outbox.unlock(await cipherOf('bert'));
    await bert.outbox.flush();
    expect(bert.sent).toEqual([]);
    expect(bert.outbox.view()).toMatchObject({ mine: [], others: 1 });
    expect(await store.all()).toHaveLength(1);
  });

  it('forgets letters and key at a logout but not what lies sealed', async () => {
    const one = page(store, () => unreachable);
    await one.outbox.unlock(await cipherOf('anna'));
    await one.outbox.add(letter('a'));
    await one.outbox.flush();
    await one.outbox.use(null);
    expect(one.outbox.view()).toMatchObject({ mine: [], others: 1, unlocked: false });
    await one.outbox.use('anna');
    expect(states(one.outbox)).toEqual(['a locked']);
    expect(one.outbox.view().mine[0]?.letter).toBeNull();
  });

  it('never sends under another name what could only be held in memory', async () => {
    const broken: EntryStore = { ...memoryStore(), put: () => Promise.reject(new Error('quota')) };
    const one = page(broken, () => unreachable);
    await one.outbox.unlock(await cipherOf('anna'));
    await one.outbox.add(letter('a'));
    await one.outbox.flush();
    expect(one.outbox.view().mine[0]).toMatchObject({ state: 'waiting', lasting: false });
    one.sent.length = 0;
    await one.outbox.unlock(await cipherOf('bert'));
    await one.outbox.flush();
    expect(one.sent).toEqual([]);
    expect(one.outbox.view()).toMatchObject({ mine: [], others: 1 });
    await one.outbox.unlock(await cipherOf('anna'));
    expect(states(one.outbox)).toEqual(['a sending']);
  });

  it('keeps what the server refused, says why, and sends it again only when told to', async () => {
    let refusing = true;
    const one = page(store, () => (refusing ? conflict : kept));
    await one.outbox.unlock(await cipherOf('anna'));
    await one.outbox.add(letter('a'));
    await one.outbox.flush();
    await one.outbox.flush();
    expect(one.sent).toEqual(['a']);
    expect(one.outbox.view().mine[0]).toMatchObject({ state: 'refused', code: 'result_superseded' });

    const reloaded = page(store, () => (refusing ? conflict : kept));
    await reloaded.outbox.unlock(await cipherOf('anna'));
    await reloaded.outbox.flush();
    expect(states(reloaded.outbox)).toEqual(['a refused']);
    expect(reloaded.sent).toEqual([]);
    refusing = false;
    await reloaded.outbox.retry('a');
    expect(reloaded.arrived).toEqual(['a']);
  });

  it('is discarded by its reader alone', async () => {
    const one = page(store, () => conflict);
    await one.outbox.unlock(await cipherOf('anna'));
    await one.outbox.add(letter('a'));
    await one.outbox.flush();
    await one.outbox.discard('a');
    expect(one.outbox.view().mine).toEqual([]);
    expect(await store.all()).toEqual([]);
  });

  it('shows an entry that was tampered with, and neither sends nor deletes it', async () => {
    const one = page(store, () => unreachable);
    await one.outbox.unlock(await cipherOf('anna'));
    await one.outbox.add(letter('a'));
    await one.outbox.flush();
    const [entry] = await store.all();
    if (!entry) throw new Error('nothing kept');
    const sealed = entry.sealed.slice();
    sealed[20] = (sealed[20] ?? 0) ^ 1;
    await store.put({ ...entry, sealed });
    const after = page(store, () => kept);
    await after.outbox.unlock(await cipherOf('anna'));
    await after.outbox.flush();
    expect(states(after.outbox)).toEqual(['a unreadable']);
    expect(after.sent).toEqual([]);
    expect(await store.all()).toHaveLength(1);
  });

  it('sends what was written before its key came', async () => {
    const one = page(store, () => kept);
    await one.outbox.use('anna');
    await one.outbox.add(letter('a'));
    await one.outbox.flush();
    expect(one.arrived).toEqual(['a']);
    await expect(page(store, () => kept).outbox.add(letter('b'))).rejects.toThrow('outbox_without_reader');
  });
});
