// Our few styles, put into the page once; a constructed sheet needs no leave from the content security policy.
import css from './theme.css';

let done = false;

export function addStyles(): void {
  if (done || typeof document === 'undefined') {
    return;
  }
  done = true;
  const sheet = new CSSStyleSheet();
  sheet.replaceSync(css);
  document.adoptedStyleSheets = [...document.adoptedStyleSheets, sheet];
}
