// How much graphics memory is taken, and that it is given back.
import { GlProblem } from './problem';

export class MemoryBudget {
  private taken = 0;
  private highest = 0;

  constructor(readonly limitBytes: number) {}

  get bytes(): number {
    return this.taken;
  }

  /** The most that was taken at a time. */
  get peakBytes(): number {
    return this.highest;
  }

  /** Takes memory; the answer gives it back, once. Throws `too_large` beyond the limit. */
  take(bytes: number): () => void {
    if (this.taken + bytes > this.limitBytes) throw new GlProblem('too_large', `${this.taken + bytes} of ${this.limitBytes} bytes`);
    this.taken += bytes;
    this.highest = Math.max(this.highest, this.taken);
    let held = true;
    return () => {
      if (held) this.taken -= bytes;
      held = false;
    };
  }
}
