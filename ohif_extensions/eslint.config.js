// What a reader of this code may rely on: no `any`, no promise left alone, hooks used as React wants them, text never as markup.
import js from '@eslint/js';
import hooks from 'eslint-plugin-react-hooks';
import ts from 'typescript-eslint';

/** A folder that takes nothing from these extensions. */
function apart(folder, extensions) {
  const group = extensions.map(name => `**/extension-${name}/**`);
  const patterns = [{ group, message: 'What several need lies in shared/.' }];
  return { files: [`${folder}/**/*.{ts,tsx}`], rules: { 'no-restricted-imports': ['error', { patterns }] } };
}

export default ts.config(
  { ignores: ['dist/**', 'node_modules/**', 'host/replacements/**'] },
  js.configs.recommended,
  {
    files: ['**/*.ts', '**/*.tsx'],
    extends: [...ts.configs.recommendedTypeChecked],
    languageOptions: { parserOptions: { projectService: true, tsconfigRootDir: import.meta.dirname } },
    plugins: { 'react-hooks': hooks },
    rules: {
      'react-hooks/rules-of-hooks': 'error',
      'react-hooks/exhaustive-deps': 'error',
      '@typescript-eslint/no-explicit-any': 'error',
      '@typescript-eslint/no-misused-promises': ['error', { checksVoidReturn: { attributes: false } }],
      '@typescript-eslint/restrict-template-expressions': 'off',
      '@typescript-eslint/require-await': 'off',
      '@typescript-eslint/no-unused-vars': ['error', { argsIgnorePattern: '^_', varsIgnorePattern: '^_' }],
      'no-restricted-properties': [
        'error',
        { property: 'dangerouslySetInnerHTML', message: 'Text from a study is text.' },
        { property: 'innerHTML', message: 'Text from a study is text.' },
        { property: 'outerHTML', message: 'Text from a study is text.' },
        { property: 'insertAdjacentHTML', message: 'Text from a study is text.' },
      ],
      'no-restricted-syntax': [
        'error',
        { selector: "JSXAttribute[name.name='dangerouslySetInnerHTML']", message: 'Text from a study is text.' },
      ],
      'no-restricted-globals': [
        'error',
        { name: 'fetch', message: 'shared/client.ts alone calls the services.' },
        { name: 'EventSource', message: 'shared/client.ts alone listens to the services.' },
        { name: 'XMLHttpRequest', message: 'shared/client.ts alone calls the services.' },
        { name: 'localStorage', message: 'Nothing of a patient or a session is kept there.' },
      ],
      'no-eval': 'error',
    },
  },
  apart('extension-results', ['review']),
  apart('extension-review', ['results']),
  apart('extension-compute', ['results', 'review']),
  apart('shared', ['results', 'review', 'compute']),
  { files: ['shared/client.ts'], rules: { 'no-restricted-globals': 'off' } },
  {
    files: ['*.mjs', '*.js', 'host/**/*.mjs', 'host/**/*.js'],
    languageOptions: {
      globals: {
        console: 'readonly', process: 'readonly', Buffer: 'readonly', URL: 'readonly', window: 'readonly', document: 'readonly',
        globalThis: 'readonly', performance: 'readonly', Event: 'readonly', HOST_MAP: 'readonly', location: 'readonly', setTimeout: 'readonly',
      },
    },
  },
);
