// The only part of a multipart/related answer, as DICOMweb sends one instance.

/** Bytes of the first part; null when `bytes` is no such answer. */
export function onlyPart(bytes: Uint8Array, contentType: string): ArrayBuffer | null {
  const boundary = /boundary="?([^";,]+)"?/i.exec(contentType)?.[1];
  if (boundary === undefined) return null;
  const first = indexOf(bytes, `--${boundary}`, 0);
  const start = first < 0 ? -1 : indexOf(bytes, '\r\n\r\n', first);
  const end = start < 0 ? -1 : lastIndexOf(bytes, `\r\n--${boundary}`);
  return end < start + 4 || start < 0 ? null : bytes.slice(start + 4, end).buffer;
}

function indexOf(bytes: Uint8Array, text: string, from: number): number {
  for (let at = from; at + text.length <= bytes.length; at++) if (matches(bytes, text, at)) return at;
  return -1;
}

function lastIndexOf(bytes: Uint8Array, text: string): number {
  for (let at = bytes.length - text.length; at >= 0; at--) if (matches(bytes, text, at)) return at;
  return -1;
}

function matches(bytes: Uint8Array, text: string, at: number): boolean {
  for (let n = 0; n < text.length; n++) if (bytes[at + n] !== text.charCodeAt(n)) return false;
  return true;
}
