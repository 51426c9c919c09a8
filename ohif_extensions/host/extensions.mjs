// Bundles every extension-*/src/index.ts(x) to an ES module with the host's packages left out; code they share goes into shared chunks.
import { existsSync, readdirSync } from 'node:fs';
import { readFile, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import { brotliCompressSync, constants, gzipSync } from 'node:zlib';

import * as esbuild from 'esbuild';

import { published } from './publish.mjs';
import { MADE, NEVER_BUNDLED, SHARED } from './shared_packages.mjs';

/** Names of the extension folders, sorted. */
export function extensionFolders(root) {
  return readdirSync(root, { withFileTypes: true })
    .filter(entry => entry.isDirectory() && entry.name.startsWith('extension-'))
    .map(entry => entry.name)
    .filter(name => entryOf(root, name) !== undefined)
    .sort();
}

function entryOf(root, name) {
  return ['index.tsx', 'index.ts'].map(file => join(root, name, 'src', file)).find(existsSync);
}

/** Turns an import of a host package into a read of what the shim has published. */
const hostPackages = {
  name: 'host-packages',
  setup(build) {
    build.onResolve({ filter: NEVER_BUNDLED }, found => {
      if (!(found.path in SHARED) && !MADE.includes(found.path)) {
        return { errors: [{ text: `${found.path} is not among the packages that the host shares` }] };
      }
      return { path: found.path, namespace: 'host-package' };
    });
    build.onLoad({ filter: /.*/, namespace: 'host-package' }, found => ({
      contents: `module.exports = globalThis[${JSON.stringify(found.path)}];`,
      loader: 'js',
    }));
  },
};

function options(root, out) {
  const entryPoints = Object.fromEntries(extensionFolders(root).map(name => [join(name, 'index'), entryOf(root, name)]));
  return {
    absWorkingDir: root,
    entryPoints,
    outdir: out,
    bundle: true,
    format: 'esm',
    splitting: true,
    chunkNames: 'shared/[name]-[hash]',
    assetNames: 'shared/[name]-[hash]',
    jsx: 'automatic',
    target: ['chrome111', 'firefox115', 'safari16.4'],
    minify: true,
    sourcemap: false,
    legalComments: 'none',
    metafile: true,
    loader: { '.css': 'text', '.glsl': 'text', '.vert': 'text', '.frag': 'text' },
    define: { 'process.env.NODE_ENV': '"production"' },
    plugins: [hostPackages, workers(root)],
    logLevel: 'warning',
  };
}

/** `import url from './x.worker.ts?worker'` bundles the worker on its own and gives its address; a worker shares nothing with the page. */
function workers(root) {
  return {
    name: 'workers',
    setup(build) {
      build.onResolve({ filter: /\?worker$/ }, found => ({
        path: join(found.resolveDir, found.path.replace(/\?worker$/, '')),
        namespace: 'worker',
      }));
      build.onLoad({ filter: /.*/, namespace: 'worker' }, async found => {
        const made = await esbuild.build({
          absWorkingDir: root,
          entryPoints: [found.path],
          bundle: true,
          format: 'iife',
          target: ['chrome111', 'firefox115', 'safari16.4'],
          minify: true,
          legalComments: 'none',
          write: false,
          metafile: true,
          logLevel: 'warning',
        });
        const name = found.path.replace(/^.*\//, '').replace(/\.tsx?$/, '.js');
        const { createHash } = await import('node:crypto');
        const code = made.outputFiles[0].contents;
        const file = `shared/${name.replace(/\.js$/, '')}-${createHash('sha256').update(code).digest('hex').slice(0, 8)}.js`;
        const { mkdir } = await import('node:fs/promises');
        await mkdir(join(build.initialOptions.outdir, 'shared'), { recursive: true });
        await writeFile(join(build.initialOptions.outdir, file), code);
        return {
          contents: `export default ${JSON.stringify(`/plugins/${file}`)};`,
          loader: 'js',
          watchFiles: Object.keys(made.metafile.inputs).map(input => join(root, input)),
        };
      });
    },
  };
}

/** Builds all extensions into `out` (served as /plugins/) and gives their sizes in bytes, raw and gzipped. */
export async function buildExtensions(root, out) {
  return published(out, async made => {
    const { metafile } = await esbuild.build(options(root, made));
    await writeFile(join(made, 'extensions.js'), `window.radloopExtensions = ${JSON.stringify(await listing(root), null, 1)};\n`);
    return { sizes: await compress(made), metafile };
  });
}

async function listing(root) {
  return Promise.all(
    extensionFolders(root).map(async folder => {
      const { name, version, radloop = {} } = JSON.parse(await readFile(join(root, folder, 'package.json'), 'utf8'));
      return { packageName: name, version, importPath: `/plugins/${folder}/index.js`, rightPanels: radloop.rightPanels ?? [], sopClassHandlers: radloop.sopClassHandlers ?? [] };
    })
  );
}

async function compress(out) {
  const sizes = {};
  for (const entry of readdirSync(out, { recursive: true, withFileTypes: true })) {
    if (!entry.isFile() || !/\.(js|json|wasm)$/.test(entry.name)) {
      continue;
    }
    const path = join(entry.parentPath ?? entry.path, entry.name);
    const data = await readFile(path);
    const gz = gzipSync(data, { level: 9 });
    await writeFile(`${path}.gz`, gz);
    await writeFile(`${path}.br`, brotliCompressSync(data, { params: { [constants.BROTLI_PARAM_QUALITY]: 9 } }));
    sizes[path.slice(out.length + 1)] = { raw: data.length, gz: gz.length };
  }
  return sizes;
}

/** Rebuilds at every change; for work on an extension. */
export async function watchExtensions(root, out) {
  const context = await esbuild.context({ ...options(root, out), minify: false });
  await context.watch();
}
