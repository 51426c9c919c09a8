// Gets the pinned package once, checks its digest at every use, and reads its files without writing them anywhere.
import { spawnSync } from 'node:child_process';
import { createHash } from 'node:crypto';
import { existsSync } from 'node:fs';
import { mkdir, readFile, rename, rm } from 'node:fs/promises';
import { join } from 'node:path';
import { promisify } from 'node:util';
import { gunzip } from 'node:zlib';

import { HOST } from './pin.mjs';

/** The package's bytes, from `cache` or fetched into it; throws when the digest is another one. */
export async function packed(cache) {
  const file = join(cache, `${HOST.name.replace('@', '').replace('/', '-')}-${HOST.version}.tgz`);
  if (!existsSync(file)) {
    await fetchInto(cache, file);
  }
  const data = await readFile(file);
  const digest = createHash('sha512').update(data).digest('base64');
  if (digest !== HOST.sha512) {
    await rm(file);
    throw new Error(`${HOST.name}@${HOST.version} has the digest ${digest}, expected ${HOST.sha512}`);
  }
  return data;
}

async function fetchInto(cache, file) {
  const folder = join(cache, 'fetching');
  await rm(folder, { recursive: true, force: true });
  await mkdir(folder, { recursive: true });
  const ran = spawnSync('npm', ['pack', '--silent', '--ignore-scripts', `${HOST.name}@${HOST.version}`], {
    cwd: folder,
    encoding: 'utf8',
    timeout: 300_000,
  });
  if (ran.status !== 0) {
    throw new Error(`npm pack ${HOST.name}@${HOST.version} failed: ${ran.stderr}`);
  }
  await rename(join(folder, ran.stdout.trim().split('\n').at(-1)), file);
  await rm(folder, { recursive: true, force: true });
}

/** Files of a gzipped tar whose path passes `wanted`, as path -> bytes. */
export async function files(archive, wanted) {
  const tar = await promisify(gunzip)(archive);
  const found = new Map();
  let longPath = '';
  for (let at = 0; at + 512 <= tar.length && tar[at] !== 0; ) {
    const header = tar.subarray(at, at + 512);
    const size = parseInt(text(header, 124, 12), 8);
    const kind = String.fromCharCode(header[156]);
    const start = at + 512;
    const body = tar.subarray(start, start + size);
    at = start + Math.ceil(size / 512) * 512;
    if (kind === 'x' || kind === 'L') {
      longPath = kind === 'L' ? body.toString('utf8').replace(/\0+$/, '') : (/\d+ path=([^\n]*)\n/.exec(body.toString('utf8'))?.[1] ?? '');
      continue;
    }
    const prefix = text(header, 345, 155);
    const path = longPath || (prefix ? `${prefix}/` : '') + text(header, 0, 100);
    longPath = '';
    if ((kind === '0' || kind === '\0') && wanted(path)) {
      if (path.split('/').includes('..')) {
        throw new Error(`the package holds a path that leaves it: ${path}`);
      }
      found.set(path, body);
    }
  }
  return found;
}

function text(buffer, start, length) {
  const end = buffer.indexOf(0, start);
  return buffer.toString('utf8', start, end < 0 || end > start + length ? start + length : end);
}
