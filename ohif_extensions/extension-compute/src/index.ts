// What this extension adds to the viewer: no panel of its own; others import its modules.
import type { Extension } from '../../shared/ohif';
import { id } from './id';

const extension: Extension = { id };

export default extension;
