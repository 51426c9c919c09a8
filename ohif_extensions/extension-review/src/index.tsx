// What this extension adds to the viewer: the panel in which calcium is read and corrected.
import type { Extension, Services } from '../../shared/ohif';
import { addStyles } from '../../shared/theme';
import { id } from './id';
import { openDesk } from './outbox/desk';
import { CalciumPanel } from './panel/CalciumPanel';
import { addReviewStyles } from './panel/styles';

const extension: Extension = {
  id,
  preRegistration() {
    addStyles();
    addReviewStyles();
    // What waits in this browser is sent whatever is on the screen.
    void openDesk();
  },
  getPanelModule: ({ servicesManager }) => {
    const services: Services = servicesManager.services;
    const component = () => <CalciumPanel services={services} />;
    return [{ name: 'calcium', iconName: 'tab-roi-threshold', iconLabel: 'Calcium', label: 'Calcium', component }];
  },
};

export default extension;
