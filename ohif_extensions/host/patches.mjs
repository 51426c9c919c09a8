// Changes to the host's own code: each names what it must find exactly so often, and the build stops when it does not.
import { readFileSync } from 'node:fs';
import { join } from 'node:path';

const code = name => readFileSync(join(import.meta.dirname, 'replacements', name), 'utf8').replace(/^\/\/.*\n/, '');

// Functions of ours are put before those of the same names, which stay behind under names that nobody calls.
const PATCHES = [
  {
    why: 'models that OHIF would fetch from another origin',
    find: /https:\/\/huggingface\.co\/[^'"`]*/g,
    put: () => '/absent',
    times: 6,
  },
  {
    why: 'the tool that needs those models',
    find: /'BrushTools', 'MarkerLabelmap', 'ClickSegment'/g,
    put: () => "'BrushTools', 'ClickSegment'",
    times: 1,
  },
  {
    why: "decoders that build functions from text, which script-src 'self' refuses",
    find: /function createNamedFunction\(name, ?body\)/g,
    put: () => `${code('embind_names.js')}function unusedCreateNamedFunction(name,body)`,
    times: 7,
  },
  {
    why: 'callers of the decoders that are built from text',
    find: /function craftInvokerFunction\((?=humanName, ?argTypes, ?classType, ?cppInvokerFunc, ?cppTargetFunc)/g,
    put: () => `${code('embind_calls.js')}function unusedCraftInvokerFunction(`,
    times: 9,
  },
  {
    why: 'makers of objects in the decoders that are built from text',
    find: /function craftEmvalAllocator\(argCount\)/g,
    put: () => `${code('embind_new.js')}function unusedCraftEmvalAllocator(argCount)`,
    times: 5,
  },
  {
    why: 'callers of methods in the decoders that are built from text',
    find: /__emval_get_method_caller=\(argCount,argTypes,kind\)=>\{/g,
    put: () => `__emval_get_method_caller=(argCount,argTypes,kind)=>{${code('embind_methods.js')}`,
    times: 2,
  },
  {
    why: 'array views that are built from text',
    find: /function compileConstructor\(dtype, dimension\)/g,
    put: () => `${code('ndarray.js')}function unusedCompileConstructor(dtype, dimension)`,
    times: 3,
  },
];

/** The patches as text: another text means other bundles. */
export const PATCHES_TEXT = JSON.stringify(PATCHES.map(({ find, put }) => [String(find), put()]));

/** The bundles with all patches, as name -> text. */
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
