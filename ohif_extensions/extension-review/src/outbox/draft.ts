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
  const place = async (job: string) => ({ kind: 'draft', owner, id: await cipher.name(`draft ${job}`) }) as const;
  return {
    async save(job, value) {
      const where = await place(job);
      await store.put({ ...where, keyId, sealed: await cipher.seal(where, value) });
    },
    async load(job) {
      const where = await place(job);
      const entry = await store.get('draft', where.id);
      if (!entry) return null;
      try {
        return await cipher.open(where, entry.sealed);
      } catch {
        return null;
      }
    },
    async drop(job) {
      await store.remove('draft', (await place(job)).id);
    },
  };
}
