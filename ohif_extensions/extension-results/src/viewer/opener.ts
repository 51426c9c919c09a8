// Watches the study on the screen while the viewer is open: opens its newest result on the images, and brings in what comes later.
import { studyOnScreen } from '../../../shared/viewer/study';
import type { Managers, Subscription } from '../../../shared/ohif';
import { resultsOf } from '../../../shared/study_results';
import { firstShown, jobsOf, segmentationsOf, seriesOfResults } from '../select';
import { fetchLate } from './late';
import { openResult } from './opening';

/** Where a touch means that the reader has taken over. */
const IMAGES = '[data-viewport-uid], .viewport-element, .cornerstone-canvas, [data-cy="viewport-grid"]';

export class Opener {
  private readonly managers: Managers;
  private readonly subscriptions: Subscription[] = [];
  private readonly opened = new Set<string>();
  private study = '';
  private touched = false;
  private over = false;
  private leaveResults: () => void = () => undefined;

  constructor(managers: Managers) {
    this.managers = managers;
    const { displaySetService, viewportGridService } = managers.servicesManager.services;
    const events = [
      displaySetService.subscribe(displaySetService.EVENTS['DISPLAY_SETS_ADDED'] ?? '', this.look),
      viewportGridService.subscribe(viewportGridService.EVENTS['ACTIVE_VIEWPORT_ID_CHANGED'] ?? '', this.look),
      viewportGridService.subscribe(viewportGridService.EVENTS['GRID_STATE_CHANGED'] ?? '', this.look),
    ];
    this.subscriptions.push(...events);
    document.addEventListener('pointerdown', this.touch, true);
    document.addEventListener('wheel', this.touch, { capture: true, passive: true });
    this.look();
  }

  stop(): void {
    this.over = true;
    this.leaveResults();
    this.subscriptions.forEach(one => one.unsubscribe());
    document.removeEventListener('pointerdown', this.touch, true);
    document.removeEventListener('wheel', this.touch, true);
  }

  private readonly touch = (event: Event): void => {
    if (event.target instanceof Element && event.target.closest(IMAGES)) {
      this.touched = true;
    }
  };

  private readonly look = (): void => {
    const study = studyOnScreen(this.managers.servicesManager.services);
    if (study === this.study || study === '') {
      return;
    }
    this.study = study;
    this.leaveResults();
    const results = resultsOf(study);
    this.leaveResults = results.subscribe(this.show);
    this.show();
  };

  private readonly show = (): void => {
    const { results } = resultsOf(this.study).current();
    if (results === null) {
      return;
    }
    const { servicesManager, commandsManager, extensionManager } = this.managers;
    void fetchLate(extensionManager, results.study, seriesOfResults(results));
    const first = firstShown(results);
    if (first === null || this.touched || this.opened.has(first.job)) {
      return;
    }
    // Once for each result, so that a reader is never taken back.
    this.opened.add(first.job);
    const replaced = segmentationsOf(jobsOf(results).replaced);
    void openResult(servicesManager.services, commandsManager, first, replaced, () => this.over || this.touched);
  };
}
