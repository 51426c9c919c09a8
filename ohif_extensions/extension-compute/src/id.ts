// The extension's name, which is its package's.
import manifest from '../package.json';

export const id = manifest.name;
