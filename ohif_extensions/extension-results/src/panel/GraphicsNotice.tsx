// Says what is missing where the browser offers no WebGL2.
import { drawnByProcessor } from '../../../shared/graphics';

export function GraphicsNotice() {
  if (!drawnByProcessor()) {
    return null;
  }
  return (
    <p className="rl-warning" role="status" data-cy="rl-graphics" data-code="no_webgl2">
      This browser offers no WebGL2: the processor draws the images, without 3D and without the AI’s segmentation over them. The panel “Coronary calcium” shows its
      own mask and computes as ever. <code>no_webgl2</code>
    </p>
  );
}
