// Builds the pages of the browser tests and benchmarks into a folder: `node bench/build.mjs FOLDER`.
import { mkdir, writeFile } from 'node:fs/promises';
import { join } from 'node:path';
import process from 'node:process';

import * as esbuild from 'esbuild';

const here = import.meta.dirname;
const out = process.argv[2];
const target = ['chrome111', 'firefox115', 'safari16.4'];

/** As in the viewer's build: a worker is a file of its own, imported by its address. */
const workers = {
  name: 'workers',
  setup(build) {
    build.onResolve({ filter: /\?worker$/ }, found => ({ path: found.path, namespace: 'worker' }));
    build.onLoad({ filter: /.*/, namespace: 'worker' }, () => ({ contents: "export default '/calcium.worker.js';" }));
  },
};

await mkdir(out, { recursive: true });
await esbuild.build({
  entryPoints: [join(here, '..', 'src', 'calcium.worker.ts')],
  bundle: true, format: 'iife', minify: true, target, outfile: join(out, 'calcium.worker.js'), logLevel: 'warning',
});
for (const page of ['shaders', 'speed']) {
  await esbuild.build({
    entryPoints: [join(here, `${page}.ts`)],
    bundle: true, format: 'esm', minify: true, target, outfile: join(out, `${page}.js`), plugins: [workers], logLevel: 'warning',
  });
  const head = `<!doctype html><meta charset="utf-8"><title>${page}</title>`;
  await writeFile(join(out, `${page}.html`), `${head}<body><script type="module" src="/${page}.js"></script></body>\n`);
}
