// Publishes the host's own React, cornerstone ... under their package names on `window`, and loads our extensions once they are there.
// It follows what OHIF's coming run-time extension contract does; HOST_MAP is made from the pinned host by host/exports.mjs.
(() => {
  const { chunks, packages } = HOST_MAP;
  window.PUBLIC_URL = '/';
  window.browserImportFunction = address => import(address);

  // The third item of a chunk is called with the bundler's own `require`.
  let hostRequire;
  (globalThis.rspackChunk ??= []).push([['radloop-host'], {}, given => { hostRequire = given; }]);

  let published;
  function publish() {
    published ??= (async () => {
      await Promise.all(chunks.map(chunk => hostRequire.e(chunk)));
      for (const [name, { id, names }] of Object.entries(packages)) {
        window[name] = named(name, hostRequire(id), names);
      }
      window['react/jsx-runtime'] = jsxRuntime(window.react);
      const { createRoot, hydrateRoot } = window['react-dom'];
      window['react-dom/client'] = { createRoot, hydrateRoot };
    })();
    return published;
  }

  function named(name, module, names) {
    const keys = Object.entries(names);
    if (keys.length === 0) {
      return module;
    }
    const view = Object.create(null);
    Object.defineProperty(view, '__esModule', { value: true });
    for (const [exported, key] of keys) {
      if (!(key in module)) {
        throw new Error(`the host's ${name} has no ${exported}`);
      }
      Object.defineProperty(view, exported, { enumerable: true, get: () => module[key] });
    }
    return view;
  }

  /** The app has no jsx-runtime of its own; createElement does the same. */
  function jsxRuntime({ createElement, Fragment }) {
    const jsx = (type, { children, ...props } = {}, key) => {
      const all = key === undefined ? props : { ...props, key };
      if (children === undefined) {
        return createElement(type, all);
      }
      return Array.isArray(children) ? createElement(type, all, ...children) : createElement(type, all, children);
    };
    return { jsx, jsxs: jsx, Fragment };
  }

  function missingPanel(packageName, name) {
    const text = `This part of the viewer did not load (${packageName}). Images can be read; reload the page to try again.`;
    const component = () => window.react.createElement('p', { role: 'alert', style: { padding: 12, color: '#fff' } }, text);
    return { name, iconName: 'tab-segmentation', iconLabel: name, label: `${name} (not loaded)`, component };
  }

  const loaded = [];
  window.__ohif = { runtimeExtensions: loaded };

  /** An entry of `window.config.extensions`: everything but the id comes when OHIF registers it, after cornerstone is there. */
  window.radloopHost = {
    /** The place of OHIF's logo; an extension may put more there. */
    logo: react => react.createElement('span', { className: 'rl-logo', style: { color: '#fff', fontWeight: 600, fontSize: 18 } }, 'radloop'),

    extension({ packageName, importPath, rightPanels }) {
      const entry = { packageName, importPath, status: 'waiting' };
      loaded.push(entry);
      const early = document.createElement('link');
      early.rel = 'modulepreload';
      early.href = importPath;
      document.head.append(early);
      return {
        id: packageName,
        async preRegistration(parameters) {
          const started = performance.now();
          try {
            await publish();
            const { default: extension } = await import(importPath);
            if (extension.id !== packageName) {
              throw new Error(`${importPath} calls itself ${extension.id}`);
            }
            const { preRegistration, ...modules } = extension;
            Object.assign(this, modules);
            await preRegistration?.call(this, parameters);
            entry.status = 'loaded';
          } catch (error) {
            entry.status = 'failed';
            entry.error = String(error);
            console.error(`radloop: ${packageName} did not load`, error);
            // The layout names these panels; without them the viewer would not open at all.
            this.getPanelModule = () => rightPanels.map(id => missingPanel(packageName, id.split('.').at(-1)));
          }
          entry.durationMs = Math.round(performance.now() - started);
        },
      };
    },
  };
})();
