// Makes the viewer's host out of the pinned OHIF: what is needed of it, minified, with our shim and configuration, and compressed beforehand.
import { createHash } from 'node:crypto';
import { mkdir, readFile, writeFile } from 'node:fs/promises';
import { availableParallelism } from 'node:os';
import { dirname, join } from 'node:path';
import { promisify } from 'node:util';
import { brotliCompress, constants, gzip } from 'node:zlib';

import { transform } from 'esbuild';

import { readExports } from './exports.mjs';
import { editIndex } from './index.mjs';
import { PATCHES_TEXT, patched } from './patches.mjs';
import { HOST } from './pin.mjs';
import { published } from './publish.mjs';
import { files, packed } from './tarball.mjs';

const DIST = 'package/dist/';

/** What of the package is not served: parts that are never asked for, and those that would ask another origin. */
const UNUSED = [
  /\.map$/,
  /^(ort|dicom-microscopy-viewer|customizations|assets)\//,
  /^(sw|init-service-worker|google|oidc-client\.min|polyfill\.min|es6-shim\.min|app-config)\.js$/,
  /^(manifest|serve)\.json$/,
  /^_(headers|redirects)$/,
  /^silent-refresh\.html$/,
];

const TEXT = /\.(js|css|html|json|svg|wasm)$/;

/** Builds the host into `out`, leaving out/plugins alone; gives the number of files and bytes. */
export async function buildHost(root, out) {
  const archive = await packed(join(root, 'dist', 'cache'));
  const taken = await files(archive, path => path.startsWith(DIST) && !UNUSED.some(part => part.test(path.slice(DIST.length))));
  const site = new Map([...taken].map(([path, data]) => [path.slice(DIST.length), data]));
  const bundles = new Map([...site].filter(([name]) => /\.bundle\.[0-9a-f]+\.js$/.test(name)).map(([name, data]) => [name, data.toString('utf8')]));
  const exports = readExports(bundles);

  const rename = renamer(bundles);
  for (const [name, text] of patched(bundles)) {
    site.delete(name);
    site.set(rename(name), rename(text));
  }
  const shim = await readFile(join(root, 'host', 'shim.js'), 'utf8');
  site.set('host.js', shim.replace('= HOST_MAP;', () => `= ${JSON.stringify(exports)};`));
  site.set('app-config.js', await readFile(join(root, 'host', 'app-config.js'), 'utf8'));
  site.set('index.html', rename(editIndex(site.get('index.html').toString('utf8'))));
  site.set('host.json', `${JSON.stringify({ name: HOST.name, version: HOST.version, exports }, null, 1)}\n`);

  const ours = name => name.startsWith('plugins/');
  const sizes = await published(out, made => all([...site], entry => writeOne(made, ...entry)), ours);
  return {
    files: sizes.length,
    raw: sizes.reduce((sum, one) => sum + one.raw, 0),
    gz: sizes.reduce((sum, one) => sum + one.gz, 0),
  };
}

/** Browsers keep a bundle for ever by the digest in its name: what is changed here gets another one. */
function renamer(bundles) {
  const digests = new Map(
    [...bundles.keys()].map(name => {
      const [old] = /[0-9a-f]{16}(?=\.js$)/.exec(name);
      return [old, createHash('sha256').update(old).update(PATCHES_TEXT).digest('hex').slice(0, 16)];
    })
  );
  return text => text.replace(/\b[0-9a-f]{16}\b/g, found => digests.get(found) ?? found);
}

async function writeOne(out, name, data) {
  let bytes = Buffer.from(data);
  if (name.endsWith('.js')) {
    const { code } = await transform(bytes.toString('utf8'), { minify: true, legalComments: 'none', target: 'es2022' });
    bytes = Buffer.from(code);
  } else if (name.endsWith('.css')) {
    const { code } = await transform(bytes.toString('utf8'), { minify: true, legalComments: 'none', loader: 'css' });
    bytes = Buffer.from(code);
  }
  const path = join(out, name);
  await mkdir(dirname(path), { recursive: true });
  await writeFile(path, bytes);
  if (!TEXT.test(name) || bytes.length < 512) {
    return { raw: bytes.length, gz: bytes.length };
  }
  const [gz, br] = await Promise.all([
    promisify(gzip)(bytes, { level: 9 }),
    promisify(brotliCompress)(bytes, { params: { [constants.BROTLI_PARAM_QUALITY]: 6, [constants.BROTLI_PARAM_SIZE_HINT]: bytes.length } }),
  ]);
  await Promise.all([writeFile(`${path}.gz`, gz), writeFile(`${path}.br`, br)]);
  return { raw: bytes.length, gz: gz.length };
}

/** Runs `work` on every item, as many at once as there are cores. */
async function all(items, work) {
  const done = [];
  const queue = items.toSorted((left, right) => right[1].length - left[1].length);
  await Promise.all(
    Array.from({ length: availableParallelism() }, async () => {
      for (let next = queue.shift(); next !== undefined; next = queue.shift()) {
        done.push(await work(next));
      }
    })
  );
  return done;
}
