import { IDBFactory } from 'fake-indexeddb';
import { expect, it } from 'vitest';
import { makeCipher, openingWith } from './cipher';
import { draftsOf } from './draft';
import { openBrowserStore } from './store';

const cipherOf = (reader: string, fill: number) => makeCipher(reader, 'k1', new Uint8Array(32).fill(fill));

it('gives a draft back to its reader, to nobody else, until it is dropped', async () => {
  const store = await openBrowserStore(new IDBFactory());
  const anna = draftsOf(store, await cipherOf('anna', 1));
  const bert = draftsOf(store, await cipherOf('bert', 2));
  await anna.save('job', { threshold: 150 });
  expect(await anna.load('job')).toEqual({ threshold: 150 });
  expect(await anna.load('other')).toBeNull();
  expect(await bert.load('job')).toBeNull();
  const [entry] = await store.all();
  expect(JSON.stringify(entry)).not.toContain('job');
  await anna.drop('job');
  expect(await anna.load('job')).toBeNull();
});

it('takes a draft that was tampered with for none', async () => {
  const store = await openBrowserStore(new IDBFactory());
  const anna = draftsOf(store, await cipherOf('anna', 1));
  await anna.save('job', {});
  const [entry] = await store.all();
  if (!entry) throw new Error('nothing kept');
  await store.put({ ...entry, sealed: entry.sealed.map((byte) => byte ^ 1) });
  expect(await anna.load('job')).toBeNull();
});

it('finds a draft of before the server changed its key, and seals it anew', async () => {
  const store = await openBrowserStore(new IDBFactory());
  const before = await makeCipher('anna', 'k1', new Uint8Array(32).fill(1));
  const after = await makeCipher('anna', 'k2', new Uint8Array(32).fill(2));
  await draftsOf(store, before).save('job', { threshold: 150 });
  const drafts = draftsOf(store, openingWith(after, [before]));
  expect(await drafts.load('job')).toEqual({ threshold: 150 });
  expect((await store.all()).map((entry) => entry.keyId)).toEqual(['k2']);
  expect(await draftsOf(store, after).load('job')).toEqual({ threshold: 150 });
  await draftsOf(store, before).save('job', { threshold: 140 });
  await drafts.drop('job');
  expect(await store.all()).toEqual([]);
});
