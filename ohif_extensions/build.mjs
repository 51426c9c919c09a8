// Makes dist/viewer, the complete site: the pinned OHIF as host (`host`), our extensions beside it (`extensions`), or both.
import { join } from 'node:path';

import { buildExtensions, watchExtensions } from './host/extensions.mjs';
import { checkImports } from './host/imports.mjs';

const root = import.meta.dirname;
const viewer = join(root, 'dist', 'viewer');
const what = process.argv[2] ?? 'all';
const started = performance.now();
const seconds = () => `${((performance.now() - started) / 1000).toFixed(2)} s`;

if (what === 'all' || what === 'host') {
  const { buildHost } = await import('./host/host.mjs');
  const { files, raw, gz } = await buildHost(root, viewer);
  console.log(`host: ${files} files, ${(raw / 1e6).toFixed(1)} MB, ${(gz / 1e6).toFixed(1)} MB gzipped (${seconds()})`);
}
if (what === 'all' || what === 'extensions') {
  await checkImports(root, viewer);
  const { sizes } = await buildExtensions(root, join(viewer, 'plugins'));
  let total = 0;
  for (const [file, { raw, gz }] of Object.entries(sizes)) {
    console.log(`  ${file}: ${raw} bytes, ${gz} gzipped`);
    total += gz;
  }
  console.log(`extensions: ${(total / 1000).toFixed(1)} kB gzipped in all (${seconds()})`);
}
if (what === 'watch') {
  await watchExtensions(root, join(viewer, 'plugins'));
  console.log('watching');
}
