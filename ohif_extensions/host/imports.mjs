// Compares what our extensions import of the host's packages with what the host that was built has: a missing name stops the build, not the reader.
import { existsSync, readdirSync } from 'node:fs';
import { readFile } from 'node:fs/promises';
import { join } from 'node:path';

const IMPORT = /^import\s+(?!type\b)(?:[\w$]+\s*,\s*)?\{([^}]*)\}\s+from\s+'([^']+)'/gm;

/** Names that a source imports of each package; types are not among them. */
export function importedNames(source) {
  const found = new Map();
  for (const [, list, name] of source.matchAll(IMPORT)) {
    const names = list
      .split(',')
      .map(one => one.trim())
      .filter(one => one !== '' && !one.startsWith('type '))
      .map(one => one.split(/\s+as\s+/)[0]);
    found.set(name, [...(found.get(name) ?? []), ...names]);
  }
  return found;
}

/** Throws when the host in `viewer` lacks a name; says nothing where no host was built yet. */
export async function checkImports(root, viewer) {
  const made = join(viewer, 'host.json');
  if (!existsSync(made)) {
    return;
  }
  const { exports } = JSON.parse(await readFile(made, 'utf8'));
  const missing = [];
  for (const file of sources(root)) {
    for (const [name, names] of importedNames(await readFile(file, 'utf8'))) {
      const known = exports.packages[name]?.names ?? {};
      if (Object.keys(known).length > 0) {
        missing.push(...names.filter(one => !(one in known)).map(one => `${one} of ${name} in ${file.slice(root.length + 1)}`));
      }
    }
  }
  if (missing.length > 0) {
    throw new Error(`the host does not export ${missing.join('; ')}`);
  }
}

function sources(root) {
  return ['shared', ...readdirSync(root).filter(name => name.startsWith('extension-'))].flatMap(folder =>
    readdirSync(join(root, folder), { recursive: true })
      .map(name => join(root, folder, name))
      .filter(name => /\.tsx?$/.test(name) && !/\.test\.|\.d\.ts$|\/testing\/|\/node_modules\//.test(name))
  );
}
