// Why WebGL2 cannot be used, as codes.
export type GlCode =
  | 'no_webgl2'
  /** Rendering to float or integer textures is not offered. */
  | 'no_targets'
  /** The context was lost: driver, sleep, too many contexts. */
  | 'lost'
  /** More memory or a larger texture than is allowed. */
  | 'too_large'
  /** A shader does not compile or link: `detail` says where. */
  | 'shader'
  /** The driver reported an error, or a target is not complete. */
  | 'driver';

export class GlProblem extends Error {
  constructor(
    readonly code: GlCode,
    readonly detail = '',
  ) {
    super(detail === '' ? code : `${code}: ${detail}`);
    this.name = 'GlProblem';
  }
}
