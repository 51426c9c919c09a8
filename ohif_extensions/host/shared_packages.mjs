// The packages that the host lends to our extensions: one list for the shim that publishes them and the bundler that leaves them out.

/** Package name -> how its module is named in the un-minified dist (the part of `// EXTERNAL MODULE:` after node_modules or platform/). */
export const SHARED = {
  'react': '../../../node_modules/react/index.js',
  'react-dom': '../../../node_modules/react-dom/index.js',
  '@ohif/core': '../../core/src/index.ts',
  '@ohif/ui-next': '../../ui-next/src/index.ts',
  '@ohif/i18n': '../../i18n/src/index.js',
  'react-i18next': '../../../node_modules/react-i18next/dist/es/index.js',
  '@cornerstonejs/core': '../../../node_modules/@cornerstonejs/core/dist/esm/index.js',
  '@cornerstonejs/tools': '../../../node_modules/@cornerstonejs/tools/dist/esm/index.js',
  'dcmjs': '../../../node_modules/dcmjs/build/dcmjs.es.js',
  'gl-matrix': '../../../node_modules/gl-matrix/esm/index.js',
};

/** Made by the shim from React itself: the app has no such module, or one that lost its names. */
export const MADE = ['react/jsx-runtime', 'react-dom/client'];

/** What an extension may never bundle. */
export const NEVER_BUNDLED = /^(react|react-dom|react-dom\/client|react\/jsx-runtime|react\/jsx-dev-runtime|react-i18next|dcmjs|gl-matrix|@ohif\/[\w-]+|@cornerstonejs\/[\w-]+)$/;
