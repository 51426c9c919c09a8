// What this extension adds to the viewer: the panel of AI results, the study list's column, the login over the viewer.
import type { Extension } from '../../shared/ohif';
import { addStyles } from '../../shared/theme';
import { watchPictures } from '../../shared/viewer/pictures';
import { customizations } from './customizations';
import { id } from './id';
import { registerColors } from './maps/colors';
import { displaySetsOf, HANDLER, SOP_CLASS } from './maps/display_set';
import { Painter } from './maps/grid';
import { registerMaps, tellOfMaps } from './maps/loader';
import { ResultsPanel } from './panel/ResultsPanel';
import { keepSession } from './session/keeper';
import { brand } from './session/logo';
import { Opener } from './viewer/opener';

let opener: Opener | null = null;
let painter: Painter | null = null;

const extension: Extension = {
  id,
  preRegistration() {
    addStyles();
    brand();
    keepSession();
    watchPictures();
    registerMaps();
    registerColors();
  },
  getPanelModule: () => [
    { name: 'results', iconName: 'tab-patient-info', iconLabel: 'AI results', label: 'AI results', component: ResultsPanel },
  ],
  getSopClassHandlerModule: () => [{ name: HANDLER, sopClassUids: [SOP_CLASS], getDisplaySetsFromSeries: displaySetsOf }],
  getCustomizationModule: () => [{ name: 'global', value: customizations }],
  onModeEnter(managers) {
    opener?.stop();
    painter?.stop();
    painter = new Painter(managers);
    const { uiNotificationService } = managers.servicesManager.services;
    tellOfMaps(message => uiNotificationService.show({ title: 'Map not shown', message, type: 'error', duration: 15_000 }));
    opener = new Opener(managers);
  },
  onModeExit() {
    opener?.stop();
    painter?.stop();
    opener = null;
    painter = null;
  },
};

export default extension;
