import { existsSync } from 'node:fs';
import { mkdir, mkdtemp, readFile, readdir, rm, stat, utimes, writeFile } from 'node:fs/promises';
import { tmpdir } from 'node:os';
import { dirname, join } from 'node:path';

import { afterEach, beforeEach, expect, it } from 'vitest';

import { published } from './publish.mjs';

let dist;
let site;

beforeEach(async () => {
  dist = await mkdtemp(join(tmpdir(), 'publish-'));
  site = join(dist, 'viewer');
});
afterEach(() => rm(dist, { recursive: true }));

const build = files => async folder => {
  for (const [name, text] of Object.entries(files)) {
    await mkdir(dirname(join(folder, name)), { recursive: true });
    await writeFile(join(folder, name), text);
  }
  return Object.keys(files).length;
};
const there = async () => (await readdir(site, { recursive: true })).toSorted();

it('puts new files in place, takes old ones and their empty folders away, and leaves marks and neighbours', async () => {
  expect(await published(site, build({ 'index.html': 'one', 'app.0123456789abcdef.js': '1', 'old/a.js': 'a' }))).toBe(3);
  await build({ '.built': '', 'plugins/extensions.js': 'ours' })(site);
  await published(site, build({ 'index.html': 'two', 'app.fedcba9876543210.js': '2' }), name => name.startsWith('plugins/'));
  expect(await there()).toEqual(['.built', 'app.fedcba9876543210.js', 'index.html', 'plugins', 'plugins/extensions.js']);
  expect(await readFile(join(site, 'index.html'), 'utf8')).toBe('two');
  expect(await readdir(dist)).toEqual(['viewer']);
});

it('leaves what did not change alone', async () => {
  await published(site, build({ 'a.js': 'a', 'b.js': 'b' }));
  const longAgo = new Date('2020-01-01T00:00:00Z');
  await utimes(join(site, 'a.js'), longAgo, longAgo);
  await utimes(join(site, 'b.js'), longAgo, longAgo);
  await published(site, build({ 'a.js': 'a', 'b.js': 'c' }));
  expect((await stat(join(site, 'a.js'))).mtime).toEqual(longAgo);
  expect((await stat(join(site, 'b.js'))).mtime).not.toEqual(longAgo);
});

it('changes nothing when the build fails', async () => {
  await published(site, build({ 'index.html': 'one' }));
  const broken = async folder => {
    await build({ 'index.html': 'half' })(folder);
    throw new Error('no network');
  };
  await expect(published(site, broken)).rejects.toThrow('no network');
  expect(await readFile(join(site, 'index.html'), 'utf8')).toBe('one');
  expect(await readdir(dist)).toEqual(['viewer']);
});

it('never leaves a reader without a file, nor with a page whose parts are not there', async () => {
  const version = n => {
    const part = `part.${String(n).padStart(16, '0')}.js`;
    return { 'index.html': part, 'host.js': `host ${n}`, [part]: `part ${n}`, 'plugins/index.js': `ours ${n}` };
  };
  await published(site, build(version(0)));
  let over = false;
  let reads = 0;
  const reader = (async () => {
    while (!over) {
      const part = await readFile(join(site, 'index.html'), 'utf8');
      const found = existsSync(join(site, part));
      // Unless another page has come meanwhile, what this one names is there.
      if ((await readFile(join(site, 'index.html'), 'utf8')) === part) expect(found).toBe(true);
      reads++;
      expect(await readFile(join(site, 'host.js'), 'utf8')).toMatch(/^host \d+$/);
      expect(await readFile(join(site, 'plugins/index.js'), 'utf8')).toMatch(/^ours \d+$/);
    }
  })();
  for (let n = 1; n <= 40; n++) {
    await published(site, build(version(n)));
  }
  over = true;
  await reader;
  expect(reads).toBeGreaterThan(10);
});
