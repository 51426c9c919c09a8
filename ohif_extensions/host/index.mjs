// Edits the host's index.html: no inline script, nothing of a phone's home screen, our scripts before OHIF's.

/** The page without inline scripts. Throws when the page is not the one this was written for. */
export function editIndex(html) {
  const bundle = /<script defer src="(\/app\.bundle\.[0-9a-f]+\.js)"><\/script>/.exec(html)?.[1];
  const style = /<link href="(\/app\.bundle\.css)" rel="stylesheet">/.exec(html)?.[1];
  if (bundle === undefined || style === undefined || !html.includes('<div id="react-portal"></div>') || !html.includes('<div id="root"></div>')) {
    throw new Error("the host's index.html is not as expected");
  }
  return `<!doctype html>
<html lang="en">
<head>
<meta charset="UTF-8">
<meta name="viewport" content="width=device-width,initial-scale=1">
<meta name="robots" content="noindex">
<meta name="referrer" content="no-referrer">
<title>radloop</title>
<link rel="icon" href="/ohif-logo.svg" type="image/svg+xml">
<script defer src="/host.js"></script>
<script defer src="/plugins/extensions.js"></script>
<script defer src="/app-config.js"></script>
<script defer src="${bundle}"></script>
<link href="${style}" rel="stylesheet">
</head>
<body>
<noscript>This viewer needs JavaScript.</noscript>
<div id="react-portal"></div>
<div id="root"></div>
</body>
</html>
`;
}
