// The few parts of OHIF's managers that our extensions use, as types; OHIF ships none.
import type * as React from 'react';

export interface Subscription {
  unsubscribe(): void;
}

export interface PubSub {
  EVENTS: Record<string, string>;
  subscribe(event: string, listener: (data: never) => void): Subscription;
}

export interface InstanceMetadata {
  SOPInstanceUID: string;
  SOPClassUID?: string;
  InstanceNumber?: number | string;
  Rows?: number;
  Columns?: number;
  ImagePositionPatient?: number[];
  ImageOrientationPatient?: number[];
  PixelSpacing?: number[];
  [tag: string]: unknown;
}

export interface DisplaySet {
  displaySetInstanceUID: string;
  StudyInstanceUID: string;
  SeriesInstanceUID: string;
  SOPInstanceUID?: string;
  SOPClassUID?: string;
  Modality: string;
  SeriesDescription?: string;
  SeriesNumber?: number;
  isOverlayDisplaySet?: boolean;
  isLoaded?: boolean;
  isHydrated?: boolean;
  loading?: boolean;
  unsupported?: boolean;
  referencedSeriesInstanceUID?: string;
  referencedDisplaySetInstanceUID?: string;
  instances?: InstanceMetadata[];
  images?: InstanceMetadata[];
  imageIds?: string[];
  load?: (options?: unknown) => Promise<unknown>;
  [key: string]: unknown;
}

export interface DisplaySetService extends PubSub {
  activeDisplaySets: DisplaySet[];
  getActiveDisplaySets(): DisplaySet[];
  getDisplaySetByUID(uid: string): DisplaySet | undefined;
  getDisplaySetsForSeries(series: string): DisplaySet[];
  addDisplaySets(...displaySets: DisplaySet[]): unknown;
  getDisplaySetsBy(filter: (one: DisplaySet) => boolean): DisplaySet[];
}

export interface GridViewport {
  viewportId: string;
  displaySetInstanceUIDs: string[];
  isReady?: boolean;
  viewportOptions?: Record<string, unknown>;
}

export interface ViewportGridState {
  activeViewportId: string;
  viewports: Map<string, GridViewport>;
  layout?: { numRows: number; numCols: number };
}

export interface ViewportGridService extends PubSub {
  getState(): ViewportGridState;
  getActiveViewportId(): string;
  setActiveViewportId(id: string): void;
  setLayout(layout: {
    numRows: number;
    numCols: number;
    findOrCreateViewport(position: number, positionId: string): {
      viewportId: string;
      displaySetInstanceUIDs: string[];
      displaySetOptions: unknown[];
      viewportOptions: Record<string, unknown>;
    };
  }): void;
  setDisplaySetsForViewport(change: { viewportId: string; displaySetInstanceUIDs: string[]; viewportOptions?: unknown }): void;
  setDisplaySetsForViewports(changes: { viewportId: string; displaySetInstanceUIDs: string[]; viewportOptions?: unknown }[]): void;
}

export interface Segment {
  segmentIndex: number;
  label: string;
  locked: boolean;
  active: boolean;
}

export interface Segmentation {
  segmentationId: string;
  label: string;
  segments: Record<string, Segment>;
  representationData: { Labelmap?: { imageIds?: string[]; volumeId?: string; referencedImageIds?: string[] } };
}

export interface SegmentationService extends PubSub {
  getSegmentations(): Segmentation[];
  getSegmentation(id: string): Segmentation | undefined;
  getSegmentationRepresentations(viewportId: string, by?: { segmentationId?: string; type?: string }): {
    segmentationId: string;
    type: string;
    visible?: boolean;
    segments?: Record<string, { visibility?: { visible: boolean; opacity: number }; visible?: boolean; color?: number[] }>;
  }[];
  getViewportIdsWithSegmentation(id: string): string[];
  setSegmentVisibility(viewportId: string, segmentationId: string, segment: number, visible: boolean, type?: string): void;
  setStyle(by: { segmentationId?: string; type?: string; segmentIndex?: number; viewportId?: string }, style: Record<string, unknown>): void;
  getStyle(by: Record<string, unknown>): unknown;
  [more: string]: unknown;
}

export interface CornerstoneViewportService extends PubSub {
  getCornerstoneViewport(viewportId: string): unknown;
}

export interface CustomizationService extends PubSub {
  getCustomization(id: string): unknown;
  setCustomizations(changes: Record<string, unknown>, scope?: string): void;
}

export interface UINotificationService {
  show(what: { title: string; message: string; type?: 'info' | 'success' | 'warning' | 'error'; duration?: number }): string;
  hide(id: string): void;
}

export interface PanelService extends PubSub {
  activatePanel(id: string, force?: boolean): void;
  getPanels(position: 'left' | 'right'): unknown[];
}

export interface Services {
  displaySetService: DisplaySetService;
  viewportGridService: ViewportGridService;
  segmentationService: SegmentationService;
  cornerstoneViewportService: CornerstoneViewportService;
  customizationService: CustomizationService;
  uiNotificationService: UINotificationService;
  panelService: PanelService;
  cineService?: { setViewportCineClosed?(viewportId: string): void };
  [name: string]: unknown;
}

export interface ServicesManager {
  services: Services;
  registerService?(service: unknown): void;
}

export interface CommandsManager {
  runCommand(name: string, options?: unknown, context?: string): unknown;
  run?(command: unknown, options?: unknown): unknown;
  registerCommand?(context: string, name: string, definition: unknown): void;
}

export interface ExtensionManager {
  getModuleEntry(id: string): unknown;
  getActiveDataSource(): unknown[];
  activeDataSourceName?: string;
}

export interface Managers {
  servicesManager: ServicesManager;
  commandsManager: CommandsManager;
  extensionManager: ExtensionManager;
  hotkeysManager?: unknown;
  appConfig?: Record<string, unknown>;
  configuration?: unknown;
}

export interface Panel {
  name: string;
  iconName: string;
  iconLabel: string;
  label: string;
  component: React.ComponentType<Record<string, unknown>>;
}

/** An OHIF extension as far as ours go. */
export interface Extension {
  id: string;
  preRegistration?(managers: Managers): void | Promise<void>;
  onModeEnter?(managers: Managers): void;
  onModeExit?(managers: Managers): void;
  getPanelModule?(managers: Managers): Panel[];
  getSopClassHandlerModule?(managers: Managers): {
    name: string;
    sopClassUids: readonly string[];
    getDisplaySetsFromSeries(instances: readonly InstanceMetadata[]): DisplaySet[];
  }[];
  getCommandsModule?(managers: Managers): unknown;
  getCustomizationModule?(managers: Managers): { name: string; value: Record<string, unknown> }[];
}
