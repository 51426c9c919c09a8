// How the viewer is set up: one data source, the gateway's, and the extensions that were built.
(() => {
  const extensions = window.radloopExtensions ?? [];
  const panels = extensions.flatMap(extension => extension.rightPanels);
  const handlers = extensions.flatMap(extension => extension.sopClassHandlers);

  /** The viewer would leave images black where it cannot draw them so; it has a slower way, but must be told. */
  const drawsWithWebGL2 = () => {
    const context = document.createElement('canvas').getContext('webgl2');
    context?.getExtension('WEBGL_lose_context')?.loseContext();
    return context !== null;
  };

  window.config = {
    name: 'radloop',
    useCPURendering: !drawsWithWebGL2(),
    routerBasename: null,
    extensions: extensions.map(extension => window.radloopHost.extension(extension)),
    modes: [],
    whiteLabeling: { createLogoComponentFn: (react, props) => window.radloopHost.logo(react, props) },
    showStudyList: true,
    maxNumberOfWebWorkers: 2,
    maxNumRequests: { interaction: 100, thumbnail: 5, prefetch: 25 },
    showWarningMessageForCrossOrigin: false,
    // OHIF's is dark on dark; the panel of results says it.
    showCPUFallbackMessage: false,
    showLoadingIndicator: true,
    strictZSpacingForVolumeViewport: true,
    // Our own notice stands in every panel that shows a number; OHIF's covers the images.
    investigationalUseDialog: { option: 'never' },
    // The overlay of the AI is shown without asking.
    disableConfirmationPrompts: true,
    // Nobody at a workstation needs a stack trace; the console has it.
    showErrorDetails: 'production',
    defaultDataSourceName: 'radloop',
    dataSources: [
      {
        namespace: '@ohif/extension-default.dataSourcesModule.dicomweb',
        sourceName: 'radloop',
        configuration: {
          friendlyName: 'radloop',
          name: 'radloop',
          qidoRoot: '/dicom-web',
          wadoRoot: '/dicom-web',
          wadoUriRoot: '/dicom-web',
          qidoSupportsIncludeField: true,
          supportsReject: false,
          supportsFuzzyMatching: false,
          supportsWildcard: true,
          imageRendering: 'wadors',
          // Orthanc has no /thumbnail.
          thumbnailRendering: 'wadors',
          enableStudyLazyLoad: true,
          dicomUploadEnabled: true,
          omitQuotationForMultipartRequest: true,
          bulkDataURI: { enabled: true },
          // OHIF's default (label map, RLE) is refused by most other readers of SEG.
          segmentation: { store: { defaultMode: 'bitmap', transferSyntaxUID: '1.2.840.10008.1.2.1' } },
        },
      },
    ],
    // Work in progress stays where it is: our own dialog asks for the password over the viewer.
    httpErrorHandler: error => {
      if (error?.status === 401) {
        window.dispatchEvent(new Event('radloop-session-lost'));
      }
    },
    customizationService: { global: { 'ohif.tours': { $set: [] } } },
    modesConfiguration: {
      '@ohif/mode-longitudinal': {
        // Before OHIF's own, which draws parametric maps over volumes only.
        sopClassHandlers: { $unshift: handlers },
        routes: {
          0: {
            layoutInstance: {
              props: {
                rightPanels: { $unshift: panels },
                rightPanelClosed: { $set: panels.length === 0 || window.innerWidth < 700 },
                leftPanelClosed: { $set: window.innerWidth < 1000 },
                rightPanelInitialExpandedWidth: { $set: Math.min(360, window.innerWidth - 8) },
                rightPanelMinimumExpandedWidth: { $set: Math.min(320, window.innerWidth - 8) },
              },
            },
          },
        },
      },
      // Its viewer is not served.
      '@ohif/mode-microscopy': { hide: true },
    },
  };
})();
