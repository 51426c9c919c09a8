/** Sealing of what waits in this browser, under a key that only its reader gets from the server. */

const FORMAT = 'radloop-outbox-1';
const NONCE_BYTES = 12;

/** What an entry is bound to; a blob moved to another entry, reader or kind does not open. */
export interface Place {
  readonly kind: 'correction' | 'draft';
  readonly owner: string;
  readonly id: string;
}

/** Seals and opens for one reader, and names things without saying what they are. */
export interface Cipher {
  readonly owner: string;
  readonly keyId: string;
  /** Of the keys that came before, newest first. */
  readonly earlier: readonly Cipher[];
  seal(place: Place, value: unknown): Promise<Uint8Array>;
  /** Rejects when the blob was changed, belongs elsewhere, or needs another key. */
  open(place: Place, sealed: Uint8Array): Promise<unknown>;
  /** A stable name for `what` that tells nobody else what it is. */
  name(what: string): Promise<string>;
}

/** A blob that does not open with this reader's key. */
export class SealBroken extends Error {
  constructor() {
    super('seal_broken');
    this.name = 'SealBroken';
  }
}

/**
 * The cipher of one reader. The raw key is not kept: AES-256-GCM and naming keys are derived from it by
 * HKDF-SHA-256 and cannot be exported.
 */
export async function makeCipher(owner: string, keyId: string, key: Uint8Array): Promise<Cipher> {
  if (key.byteLength !== 32) throw new SealBroken();
  const base = await crypto.subtle.importKey('raw', plain(key), 'HKDF', false, ['deriveKey']);
  const derive = (info: string): HkdfParams => ({
    name: 'HKDF',
    hash: 'SHA-256',
    salt: new Uint8Array(0),
    info: utf8(`${FORMAT} ${info}`),
  });
  const aes = await crypto.subtle.deriveKey(derive('entries'), base, { name: 'AES-GCM', length: 256 }, false, [
    'encrypt',
    'decrypt',
  ]);
  const hmac = await crypto.subtle.deriveKey(
    derive('names'),
    base,
    { name: 'HMAC', hash: 'SHA-256', length: 256 },
    false,
    ['sign'],
  );
  const additionalData = (place: Place) => utf8([FORMAT, place.kind, place.owner, place.id, keyId].join('|'));
  return {
    owner,
    keyId,
    earlier: [],
    async seal(place, value) {
      const iv = crypto.getRandomValues(new Uint8Array(NONCE_BYTES));
      const text = utf8(JSON.stringify(value));
      const params = { name: 'AES-GCM', iv, additionalData: additionalData(place) };
      const sealed = new Uint8Array(await crypto.subtle.encrypt(params, aes, text));
      const blob = new Uint8Array(NONCE_BYTES + sealed.byteLength);
      blob.set(iv);
      blob.set(sealed, NONCE_BYTES);
      return blob;
    },
    async open(place, sealed) {
      if (place.owner !== owner || sealed.byteLength <= NONCE_BYTES) throw new SealBroken();
      const iv = plain(sealed.subarray(0, NONCE_BYTES));
      const params = { name: 'AES-GCM', iv, additionalData: additionalData(place) };
      try {
        const text = await crypto.subtle.decrypt(params, aes, plain(sealed.subarray(NONCE_BYTES)));
        return JSON.parse(new TextDecoder().decode(text)) as unknown;
      } catch {
        throw new SealBroken();
      }
    },
    async name(what) {
      const digest = new Uint8Array(await crypto.subtle.sign('HMAC', hmac, utf8(what)));
      return [...digest.subarray(0, 16)].map((byte) => byte.toString(16).padStart(2, '0')).join('');
    },
  };
}

/** Seals with `newest`, and opens what that or one of `older` has sealed: the server's key may be changed in between. */
export function openingWith(newest: Cipher, older: readonly Cipher[]): Cipher {
  return {
    ...newest,
    earlier: older,
    async open(place, sealed) {
      for (const cipher of [newest, ...older]) {
        try {
          return await cipher.open(place, sealed);
        } catch {
          // Perhaps the next one.
        }
      }
      throw new SealBroken();
    },
  };
}

/** Bytes of base64 text, as the server sends a key. */
export function fromBase64(text: string): Uint8Array {
  return Uint8Array.from(atob(text), (letter) => letter.charCodeAt(0));
}

function utf8(text: string): Uint8Array<ArrayBuffer> {
  return new Uint8Array(new TextEncoder().encode(text));
}

function plain(bytes: Uint8Array): Uint8Array<ArrayBuffer> {
  return new Uint8Array(bytes);
}
