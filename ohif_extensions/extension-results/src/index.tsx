// What this extension adds to the viewer.
import type { Extension } from '../../shared/ohif';
import { id } from './id';

const extension: Extension = { id };

export default extension;
