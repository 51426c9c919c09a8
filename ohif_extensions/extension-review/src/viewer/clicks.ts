/** Clicks on an image that are no drags: any tool of the viewer may be active under them. */

const FAR_PX = 4;
const LONG_MS = 600;

/** Tells where in the element was clicked and whether a modifier was held; the answer stops listening. */
export function listenForClicks(
  element: HTMLElement,
  listener: (point: readonly [number, number], modified: boolean) => void,
): () => void {
  let down: PointerEvent | null = null;
  const onDown = (event: PointerEvent) => {
    down = event.button === 0 && event.isPrimary && !onControl(event) ? event : null;
  };
  const onUp = (event: PointerEvent) => {
    const began = down;
    down = null;
    if (!began || event.button !== 0 || !event.isPrimary) return;
    const far = Math.hypot(event.clientX - began.clientX, event.clientY - began.clientY) > FAR_PX;
    if (far || event.timeStamp - began.timeStamp > LONG_MS) return;
    const box = element.getBoundingClientRect();
    const point = [event.clientX - box.left, event.clientY - box.top] as const;
    if (point[0] < 0 || point[1] < 0 || point[0] > box.width || point[1] > box.height) return;
    listener(point, event.shiftKey || event.ctrlKey || event.metaKey);
  };
  element.addEventListener('pointerdown', onDown, true);
  // The viewer may take the pointer away from the element meanwhile.
  window.addEventListener('pointerup', onUp, true);
  return () => {
    element.removeEventListener('pointerdown', onDown, true);
    window.removeEventListener('pointerup', onUp, true);
  };
}

function onControl(event: PointerEvent): boolean {
  return event.target instanceof Element && event.target.closest('button, a, input, select, [role="button"]') !== null;
}
