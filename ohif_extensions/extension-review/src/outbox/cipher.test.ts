import { describe, expect, it } from 'vitest';
import { fromBase64, makeCipher, openingWith, SealBroken, type Place } from './cipher';

const key = (fill: number) => new Uint8Array(32).fill(fill);
const place: Place = { kind: 'correction', owner: 'anna', id: 'one' };
const secret = { study: '1.2.840.1', note: 'Müller^Jörg 山田' };

describe('what waits in the browser', () => {
  it('opens for its reader as it was', async () => {
    const cipher = await makeCipher('anna', 'k1', key(7));
    expect(await cipher.open(place, await cipher.seal(place, secret))).toEqual(secret);
  });

  it('shows nothing of its content', async () => {
    const cipher = await makeCipher('anna', 'k1', key(7));
    const text = new TextDecoder('latin1').decode(await cipher.seal(place, secret));
    expect(text).not.toContain('1.2.840');
    expect(text).not.toContain('ller');
  });

  it('is never sealed the same twice', async () => {
    const cipher = await makeCipher('anna', 'k1', key(7));
    expect(await cipher.seal(place, secret)).not.toEqual(await cipher.seal(place, secret));
  });

  it('does not open when a byte was changed, wherever it is', async () => {
    const cipher = await makeCipher('anna', 'k1', key(7));
    const sealed = await cipher.seal(place, secret);
    for (const at of [0, 11, 12, sealed.length - 1]) {
      const changed = sealed.slice();
      changed[at] = (changed[at] ?? 0) ^ 1;
      await expect(cipher.open(place, changed)).rejects.toThrow(SealBroken);
    }
    await expect(cipher.open(place, sealed.subarray(0, 12))).rejects.toThrow(SealBroken);
  });

  it('does not open in the place of another entry, kind or key', async () => {
    const cipher = await makeCipher('anna', 'k1', key(7));
    const sealed = await cipher.seal(place, secret);
    await expect(cipher.open({ ...place, id: 'two' }, sealed)).rejects.toThrow(SealBroken);
    await expect(cipher.open({ ...place, kind: 'draft' }, sealed)).rejects.toThrow(SealBroken);
    const renewed = await makeCipher('anna', 'k2', key(7));
    await expect(renewed.open(place, sealed)).rejects.toThrow(SealBroken);
  });

  it('does not open for another reader, not even under their name', async () => {
    const anna = await makeCipher('anna', 'k1', key(7));
    const bert = await makeCipher('bert', 'k1', key(8));
    const sealed = await anna.seal(place, secret);
    await expect(bert.open(place, sealed)).rejects.toThrow(SealBroken);
    await expect(bert.open({ ...place, owner: 'bert' }, sealed)).rejects.toThrow(SealBroken);
    const thief = await makeCipher('anna', 'k1', key(8));
    await expect(thief.open(place, sealed)).rejects.toThrow(SealBroken);
  });

  it('has names that are stable for a reader and tell nobody else anything', async () => {
    const anna = await makeCipher('anna', 'k1', key(7));
    const bert = await makeCipher('bert', 'k1', key(8));
    expect(await anna.name('job')).toBe(await anna.name('job'));
    expect(await anna.name('job')).toMatch(/^[0-9a-f]{32}$/);
    expect(await anna.name('job')).not.toBe(await bert.name('job'));
  });

  it('opens after the server changed its key, and is sealed with the new one', async () => {
    const before = await makeCipher('anna', 'k1', key(7));
    const after = await makeCipher('anna', 'k2', key(9));
    const cipher = openingWith(after, [before]);
    expect(cipher.keyId).toBe('k2');
    expect(await cipher.open(place, await before.seal(place, secret))).toEqual(secret);
    expect(await after.open(place, await cipher.seal(place, secret))).toEqual(secret);
    const foreign = await makeCipher('bert', 'k1', key(8));
    await expect(cipher.open(place, await foreign.seal({ ...place, owner: 'bert' }, secret))).rejects.toThrow(SealBroken);
  });

  it('needs a key of 32 bytes', async () => {
    await expect(makeCipher('anna', 'k1', fromBase64('AAAA'))).rejects.toThrow(SealBroken);
  });
});
