/** Where sealed entries lie: IndexedDB in the browser, a map in tests and where a browser offers none. */

/** One entry. Nothing but `sealed` says anything about a study, a patient or a verdict. */
export interface Entry {
  readonly id: string;
  readonly kind: 'correction' | 'draft';
  readonly owner: string;
  readonly keyId: string;
  readonly sealed: Uint8Array;
}

/** Entries by kind and id; each promise settles after the change is durable. */
export interface EntryStore {
  /** False when entries die with the page. */
  readonly lasting: boolean;
  put(entry: Entry): Promise<void>;
  remove(kind: Entry['kind'], id: string): Promise<void>;
  get(kind: Entry['kind'], id: string): Promise<Entry | undefined>;
  all(): Promise<Entry[]>;
}

const DATABASE = 'radloop-outbox';
const TABLE = 'entries';

/** Entries in this browser. Rejects where IndexedDB is switched off or broken. */
export async function openBrowserStore(factory: IDBFactory = indexedDB, name = DATABASE): Promise<EntryStore> {
  const database = await new Promise<IDBDatabase>((resolve, reject) => {
    const request = factory.open(name, 1);
    request.onupgradeneeded = () => request.result.createObjectStore(TABLE, { keyPath: ['kind', 'id'] });
    request.onsuccess = () => resolve(request.result);
    request.onerror = () => reject(request.error ?? new Error('outbox_store'));
    request.onblocked = () => reject(new Error('outbox_store'));
  });
  database.onversionchange = () => database.close();

  function change(work: (table: IDBObjectStore) => void): Promise<void> {
    return new Promise((resolve, reject) => {
      const transaction = database.transaction(TABLE, 'readwrite', { durability: 'strict' });
      transaction.oncomplete = () => resolve();
      transaction.onabort = () => reject(transaction.error ?? new Error('outbox_store'));
      transaction.onerror = () => reject(transaction.error ?? new Error('outbox_store'));
      work(transaction.objectStore(TABLE));
    });
  }

  function ask<T>(question: (table: IDBObjectStore) => IDBRequest<T>): Promise<T> {
    return new Promise((resolve, reject) => {
      const request = question(database.transaction(TABLE, 'readonly').objectStore(TABLE));
      request.onsuccess = () => resolve(request.result);
      request.onerror = () => reject(request.error ?? new Error('outbox_store'));
    });
  }

  return {
    lasting: true,
    put: (entry) => change((table) => table.put(entry)),
    remove: (kind, id) => change((table) => table.delete([kind, id])),
    get: (kind, id) => ask((table) => table.get([kind, id]) as IDBRequest<Entry | undefined>),
    all: () => ask((table) => table.getAll() as IDBRequest<Entry[]>),
  };
}

/** Entries that last as long as the page. */
export function memoryStore(lasting = false): EntryStore {
  const entries = new Map<string, Entry>();
  const key = (kind: string, id: string) => `${kind}|${id}`;
  return {
    lasting,
    put: async (entry) => void entries.set(key(entry.kind, entry.id), entry),
    remove: async (kind, id) => void entries.delete(key(kind, id)),
    get: async (kind, id) => entries.get(key(kind, id)),
    all: async () => [...entries.values()],
  };
}
