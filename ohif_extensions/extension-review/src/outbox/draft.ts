/** What a reader has not saved yet, kept sealed in this browser so that a reload or a crash takes none of it. */

import type { Cipher } from './cipher';
import type { EntryStore } from './store';

/** One draft for each reader and result. */
export interface Drafts {
  save(job: string, value: unknown): Promise<void>;
  /** Null when there is none, or none that opens. */
  load(job: string): Promise<unknown>;
  drop(job: string): Promise<void>;
}

export function draftsOf(store: EntryStore, cipher: Cipher): Drafts {
  const { owner, keyId } = cipher;
  const place = async (job: string, by = cipher) => ({ kind: 'draft', owner, id: await by.name(`draft ${job}`) }) as const;
  const drafts: Drafts = {
    async save(job, value) {
      const where = await place(job);
      await store.put({ ...where, keyId, sealed: await cipher.seal(where, value) });
    },
    async load(job) {
      // Its name comes from the key as well: after a change of keys it lies where the earlier one put it.
      for (const by of [cipher, ...cipher.earlier]) {
        const where = await place(job, by);
        const entry = await store.get('draft', where.id);
        if (!entry) continue;
        try {
          const value = await cipher.open(where, entry.sealed);
          if (by !== cipher) await renewed(job, value, where.id);
          return value;
        } catch {
          return null;
        }
      }
      return null;
    },
    async drop(job) {
      for (const by of [cipher, ...cipher.earlier]) await store.remove('draft', (await place(job, by)).id);
    },
  };

  /** Seals it anew, and only then lets go of the old one; a store that cannot do that now has it still. */
  async function renewed(job: string, value: unknown, oldId: string): Promise<void> {
    await drafts
      .save(job, value)
      .then(() => store.remove('draft', oldId))
      .catch(() => undefined);
  }
  return drafts;
}
