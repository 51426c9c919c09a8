// Reads from the un-minified host which module is which package and under what names it exports: the comments keep what minifying lost.
import { SHARED } from './shared_packages.mjs';

const escaped = text => text.replace(/[.*+?^${}()|[\]\\]/g, '\\$&');

/** Ids of the shared packages, the names of what they export, and the chunks that hold cornerstone; throws when anything is not as expected. */
export function readExports(bundles) {
  const all = [...bundles.values()];
  const main = only([...bundles].filter(([name]) => name.startsWith('app.bundle.')).map(([, text]) => text), 'main bundle');
  const packages = {};
  for (const [name, module] of Object.entries(SHARED)) {
    const id = idOf(module, all);
    packages[name] = { id, names: namesOf(id, all) };
  }
  const chunks = chunksOf('@ohif/extension-cornerstone', main);
  const loaded = [main, ...chunks.map(chunk => bundles.get([...bundles.keys()].find(file => file.startsWith(`${chunk}.bundle.`)) ?? '') ?? '')];
  for (const [name, { id }] of Object.entries(packages)) {
    if (!loaded.some(text => moduleAt(id, text) >= 0)) {
      throw new Error(`module ${id} (${name}) is in none of the chunks that the host loads at start`);
    }
  }
  return { chunks, packages };
}

function idOf(module, bundles) {
  const comment = new RegExp(
    `// EXTERNAL MODULE: ${escaped(module)}(?: \\+ \\d+ modules)?\\n(?:var|const|let) \\w+ = (?:/\\*#__PURE__\\*/)?__webpack_require__\\((\\d+)\\)`,
    'g'
  );
  const ids = new Set(bundles.flatMap(text => [...text.matchAll(comment)].map(found => Number(found[1]))));
  return only([...ids], `module id of ${module}`);
}

function moduleAt(id, text) {
  return text.search(new RegExp(`^"?${id}"?(?:\\(|: ?(?:function|\\())`, 'm'));
}

/** Exported name -> key in the host's module; {} where they are the same (CommonJS, modules that were not concatenated). */
function namesOf(id, bundles) {
  const text = bundles.find(one => moduleAt(id, one) >= 0);
  if (text === undefined) {
    throw new Error(`module ${id} is not in the host`);
  }
  const start = moduleAt(id, text);
  const head = text.slice(start, start + 400);
  const define = head.indexOf('__webpack_require__.d(__webpack_exports__, {');
  if (define < 0) {
    return {};
  }
  const from = start + define;
  const list = text.slice(from, text.indexOf('\n});', from));
  const names = {};
  for (const [, key, , what] of list.matchAll(/^\s*"?([\w$]+)"?: \(\) => \((\/\* (?:reexport(?: safe| module object| default from dynamic)?|binding) \*\/ )?([^\n]*?)\),?$/gm)) {
    const name = nameOf(key, what);
    if (name !== '' && !(name in names)) {
      names[name] = key;
    }
    if (key === 'A' || key === 'Ay') {
      names.default = key;
    }
  }
  if (Object.keys(names).length === 0) {
    throw new Error(`module ${id} exports nothing that can be read`);
  }
  return names;
}

/** The name in the source of an export that is known as `key`, from what stands behind its arrow. */
function nameOf(key, what) {
  const kept = /\/\* \.(\w+) \*\//.exec(what);
  if (kept) {
    return kept[1];
  }
  if (/inlined export|_rspack_import_\d+\.|^_enums|^_constants|^_utilities/.test(what) || key.length > 3) {
    return key;
  }
  const module = /^_(\w+?)_js__rspack_import_/.exec(what);
  if (module) {
    return module[1];
  }
  if (/\["default"\]/.test(what)) {
    return what.split('/')[0].trim();
  }
  const local = what.trim();
  if (/^[A-Z][A-Z0-9_]*$/.test(local)) {
    return local;
  }
  return local.replace(/_namespaceObject$/, '').split('_').at(-1) ?? '';
}

function chunksOf(extension, main) {
  const at = main.indexOf(`if (module === "${extension}")`);
  const line = at < 0 ? '' : main.slice(at, main.indexOf('.then(', at));
  const chunks = [...line.matchAll(/__webpack_require__\.e\((\d+)\)/g)].map(found => Number(found[1]));
  if (chunks.length === 0) {
    throw new Error(`the host does not say which chunks hold ${extension}`);
  }
  return chunks;
}

function only(found, what) {
  if (found.length !== 1) {
    throw new Error(`${what}: expected one, found ${found.length} (${found.slice(0, 5).join(', ')})`);
  }
  return found[0];
}
