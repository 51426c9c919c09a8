import { readFileSync } from 'node:fs';
import { gzipSync } from 'node:zlib';

import { describe, expect, it } from 'vitest';

import { readExports } from './exports.mjs';
import { importedNames } from './imports.mjs';
import { editIndex } from './index.mjs';
import { patched } from './patches.mjs';
import { files } from './tarball.mjs';

const replacement = name => readFileSync(new URL(`./replacements/${name}.js`, import.meta.url), 'utf8');

/** A tar entry of a regular file. */
function entry(path, text) {
  const header = Buffer.alloc(512);
  header.write(path, 0);
  header.write(text.length.toString(8).padStart(11, '0'), 124);
  header.write('0', 156);
  return Buffer.concat([header, Buffer.from(text), Buffer.alloc((512 - (text.length % 512)) % 512)]);
}

describe('the package', () => {
  it('gives the files that are wanted', async () => {
    const tar = gzipSync(Buffer.concat([entry('package/dist/a.js', 'one'), entry('package/dist/a.map', 'two'), Buffer.alloc(1024)]));
    const found = await files(tar, path => path.endsWith('.js'));
    expect([...found].map(([path, data]) => [path, data.toString()])).toEqual([['package/dist/a.js', 'one']]);
  });

  it('is refused when a path leaves it', async () => {
    const tar = gzipSync(Buffer.concat([entry('package/../../a.js', 'one'), Buffer.alloc(1024)]));
    await expect(files(tar, () => true)).rejects.toThrow('leaves it');
  });
});

describe('another host than the one that was pinned', () => {
  it('stops the build where a patch does not find its places', () => {
    expect(() => patched(new Map([['app.bundle.0.js', 'nothing of it']]))).toThrow(/expected \d+ places, found 0/);
  });

  it('stops the build where a module is not found', () => {
    expect(() => readExports(new Map([['app.bundle.0.js', 'nothing of it']]))).toThrow('expected one, found 0');
  });

  it('stops the build where the page is another one', () => {
    expect(() => editIndex('<html></html>')).toThrow('not as expected');
  });
});

it('makes a page without inline scripts', () => {
  const html =
    '<script>inline()</script><script defer src="/app.bundle.0123456789abcdef.js"></script><link href="/app.bundle.css" rel="stylesheet">' +
    '<div id="react-portal"></div><div id="root"></div>';
  const page = editIndex(html);
  expect(page.match(/<script(?![^>]*\bsrc=)/g)).toBeNull();
  expect(page.indexOf('/host.js')).toBeLessThan(page.indexOf('/app.bundle.0123456789abcdef.js'));
});

it('reads what a source imports, without types', () => {
  const names = importedNames("import { a, type B, c as d } from '@ohif/core';\nimport type { E } from '@ohif/core';\nimport F, { g } from 'x';");
  expect([...names]).toEqual([
    ['@ohif/core', ['a', 'c']],
    ['x', ['g']],
  ]);
});

describe('array views without code from text', () => {
  const make = new Function('CACHED_CONSTRUCTORS', 'order', `${replacement('ndarray')}; return compileConstructor;`);
  const views = { int16: [] };
  const compile = make(views, function order() {
    return this.stride.map((_, axis) => axis).reverse();
  });
  for (let dimension = -1; dimension <= 4; dimension++) {
    views.int16.push(compile('int16', dimension));
  }
  const data = Int16Array.from({ length: 24 }, (_, index) => index);
  const view = () => views.int16[4](data, [2, 3, 4], [12, 4, 1], 0);

  it('read and write where shape and stride say', () => {
    expect(view().get(1, 2, 3)).toBe(23);
    const copy = views.int16[3](Int16Array.from(data), [6, 4], [4, 1], 0);
    copy.set(5, 3, -7);
    expect(copy.data[23]).toBe(-7);
    expect([view().size, view().dimension, view().dtype]).toEqual([24, 3, 'int16']);
  });

  it('pick, cut, turn and step without copying', () => {
    expect(view().pick(1, -1, -1).get(2, 3)).toBe(23);
    expect(view().pick(1, 2, 3).get()).toBe(23);
    expect(view().lo(1, 1, 1).get(0, 0, 0)).toBe(17);
    expect(view().hi(1, 2, 3).shape).toEqual([1, 2, 3]);
    expect(view().transpose(2, 1, 0).get(3, 2, 1)).toBe(23);
    expect(view().step(1, 1, -1).get(1, 2, 0)).toBe(23);
    expect(view().step(1, 1, 2).shape).toEqual([2, 3, 2]);
    expect(view().data).toBe(data);
  });

  it('reach four dimensions', () => {
    expect(views.int16[5](data, [2, 1, 3, 4], [12, 12, 4, 1], 0).get(1, 0, 2, 3)).toBe(23);
  });
});

describe('decoders without code from text', () => {
  const make = new Function(
    'throwBindingError',
    'runDestructors',
    'makeLegalFunctionName',
    `${replacement('embind_names')}${replacement('embind_calls')}; return { craftInvokerFunction, createNamedFunction };`
  );
  const fail = text => {
    throw new Error(text);
  };
  const run = stack => {
    while (stack.length > 0) {
      const pointer = stack.pop();
      stack.pop()(pointer);
    }
  };
  const { craftInvokerFunction, createNamedFunction } = make(fail, run, name => name);
  const freed = [];
  const number = { name: 'int', destructorFunction: null, fromWireType: wire => wire, toWireType: (_, value) => value };
  const text = {
    name: 'string',
    toWireType: (destructors, value) => {
      destructors.push(pointer => freed.push(pointer), value.length);
      return value.length;
    },
  };
  const none = { name: 'void' };

  it('call with the target first, the object second and the rest behind', () => {
    const self = { name: 'Decoder', destructorFunction: null, toWireType: (_, object) => object.pointer };
    const calls = [];
    const call = craftInvokerFunction('Decoder.decode', [number, self, number], {}, (...given) => calls.push(given) && 42, 7);
    expect(call.call({ pointer: 1000 }, 5)).toBe(42);
    expect(calls).toEqual([[7, 1000, 5]]);
  });

  it('free what was made for a call', () => {
    const call = craftInvokerFunction('set', [none, null, text], null, () => undefined, 7);
    expect(call('four')).toBeUndefined();
    expect(freed).toEqual([4]);
  });

  it('refuse a wrong number of arguments', () => {
    const call = craftInvokerFunction('set', [none, null, number], null, () => undefined, 7);
    expect(() => call()).toThrow('called with 0 arguments, expected 1');
  });

  it('name functions', () => {
    expect(createNamedFunction('Decoder', () => 1).name).toBe('Decoder');
  });
});
