// Puts what was built beside a site in its place, so that a gateway that serves the site finds every file at every moment.
import { mkdir, mkdtemp, readFile, readdir, rename, rm, rmdir } from 'node:fs/promises';
import { dirname, join } from 'node:path';

/** Named by their content, so that old and new lie side by side: first to come, last to go. */
const BY_DIGEST = /(^|[/.-])([0-9a-f]{8,64}|[0-9A-Z]{8})\.[a-z0-9]+(\.gz|\.br)?$/;

/** What names all others: it comes when they are there. */
const ENTRIES = [/(^|\/)index\.html(\.gz|\.br)?$/, /(^|\/)extensions\.js(\.gz|\.br)?$/, /(^|\/)index\.js(\.gz|\.br)?$/];

const COMPRESSED = /\.(gz|br)$/;

/** Has `build` write into an empty folder beside `out` and publishes it; when `build` fails, `out` is as it was. */
export async function published(out, build, keep = () => false) {
  await mkdir(out, { recursive: true });
  const made = await mkdtemp(join(dirname(out), '.made-'));
  try {
    const result = await build(made);
    await publish(made, out, keep);
    return result;
  } finally {
    await rm(made, { recursive: true, force: true });
  }
}

/**
 * Moves every file of `made` to its place in `out`, one atomic step each, then removes what is no longer part of it.
 * Hidden files (marks of other tools) and what `keep` names stay; an unchanged file is left alone, for browsers know it by its time.
 */
export async function publish(made, out, keep = () => false) {
  const names = await filesIn(made);
  for (const name of names.toSorted(inOrder)) {
    if (await same(join(made, name), join(out, name))) {
      continue;
    }
    await mkdir(dirname(join(out, name)), { recursive: true });
    await rename(join(made, name), join(out, name));
  }
  const current = new Set(names);
  const left = (await filesIn(out)).filter(name => !current.has(name) && !/(^|\/)\./.test(name) && !keep(name));
  for (const name of left.toSorted(inOrder).reverse()) {
    await rm(join(out, name), { force: true });
    await removeEmpty(out, dirname(name));
  }
}

/** Names below a folder, with slashes. */
async function filesIn(folder) {
  const entries = await readdir(folder, { recursive: true, withFileTypes: true });
  return entries.filter(entry => !entry.isDirectory()).map(entry => join(entry.parentPath ?? entry.path, entry.name).slice(folder.length + 1));
}

function inOrder(one, other) {
  return rank(one) - rank(other) || (one < other ? -1 : 1);
}

/** A compressed form comes after its file: until then the old one is older than the file and is not served. */
function rank(name) {
  const at = ENTRIES.findIndex(entry => entry.test(name));
  const when = at >= 0 ? ENTRIES.length + 1 - at : BY_DIGEST.test(name) ? 0 : 1;
  return 2 * when + (COMPRESSED.test(name) ? 1 : 0);
}

async function same(one, other) {
  try {
    const [left, right] = await Promise.all([readFile(one), readFile(other)]);
    return left.equals(right);
  } catch (error) {
    if (error.code === 'ENOENT') {
      return false;
    }
    throw error;
  }
}

async function removeEmpty(out, folder) {
  for (let path = folder; path !== '.'; path = dirname(path)) {
    try {
      await rmdir(join(out, path));
    } catch {
      return;
    }
  }
}
