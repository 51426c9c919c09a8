// Changes to the host's own code: each names what it must find exactly so often, and the build stops when it does not.

const PATCHES = [
  {
    why: 'models that OHIF would fetch from another origin',
    find: /https:\/\/huggingface\.co\/[^'"`]*/g,
    put: '/absent',
    times: 6,
  },
];

/** The bundles that change, as name -> text. */
export function patched(bundles) {
  const changed = new Map(bundles);
  for (const { why, find, put, times } of PATCHES) {
    let found = 0;
    for (const [name, text] of changed) {
      const count = (text.match(find) ?? []).length;
      if (count > 0) {
        found += count;
        changed.set(name, text.replace(find, put));
      }
    }
    if (found !== times) {
      throw new Error(`patch for ${why}: expected ${times} places, found ${found}`);
    }
  }
  return changed;
}
