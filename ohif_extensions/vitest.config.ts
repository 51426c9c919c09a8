// Tests of pure functions and of registration; what needs WebGL or the viewer is tested in a real browser.
import { defineConfig } from 'vitest/config';

const stub = (name: string) => new URL(`./shared/testing/${name}`, import.meta.url).pathname;

export default defineConfig({
  test: {
    include: ['shared/**/*.test.{ts,tsx}', 'extension-*/src/**/*.test.{ts,tsx}', 'host/**/*.test.{ts,mjs}'],
    environment: 'node',
    pool: 'threads',
  },
  resolve: {
    alias: [
      { find: /^@ohif\/core$/, replacement: stub('ohif-core.ts') },
      { find: /^@ohif\/ui-next$/, replacement: stub('ohif-ui-next.ts') },
      { find: /^@cornerstonejs\/(core|tools)$/, replacement: stub('cornerstone.ts') },
    ],
  },
});
