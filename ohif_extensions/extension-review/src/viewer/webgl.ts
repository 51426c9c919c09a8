/** Whether this browser can draw as the viewer does; asked once, and the answer's context is given back at once. */

let answer: boolean | null = null;

export function hasWebgl2(): boolean {
  if (answer !== null) return answer;
  const context = document.createElement('canvas').getContext('webgl2');
  context?.getExtension('WEBGL_lose_context')?.loseContext();
  answer = context !== null;
  return answer;
}
