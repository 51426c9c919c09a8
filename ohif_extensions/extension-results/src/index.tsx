// What this extension adds to the viewer: the panel of AI results, the study list's column, the login over the viewer.
import type { Extension } from '../../shared/ohif';
import { addStyles } from '../../shared/theme';
import { watchPictures } from '../../shared/viewer/pictures';
import { customizations } from './customizations';
import { id } from './id';
import { ResultsPanel } from './panel/ResultsPanel';
import { keepSession } from './session/keeper';
import { brand } from './session/logo';
import { Opener } from './viewer/opener';

let opener: Opener | null = null;

const extension: Extension = {
  id,
  preRegistration() {
    addStyles();
    brand();
    keepSession();
    watchPictures();
  },
  getPanelModule: () => [
    { name: 'results', iconName: 'tab-patient-info', iconLabel: 'AI results', label: 'AI results', component: ResultsPanel },
  ],
  getCustomizationModule: () => [{ name: 'global', value: customizations }],
  onModeEnter(managers) {
    opener?.stop();
    opener = new Opener(managers);
  },
  onModeExit() {
    opener?.stop();
    opener = null;
  },
};

export default extension;
