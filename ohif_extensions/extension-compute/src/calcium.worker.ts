// The calcium worker: one volume, one request at a time, the current slice first.
import { CalciumCore } from './calcium/core';
import { Superseded } from './calcium/islands';
import type { Choice } from './gl/listing';
import { collectByBest } from './gl/listing';
import type { FromWorker, ToWorker } from './protocol';
import { problemOf } from './protocol';

/** As much of a worker's own scope as is used here; the page's types are the ones in reach. */
interface Scope {
  postMessage(message: FromWorker, transfer?: readonly ArrayBufferLike[]): void;
  onmessage: ((event: MessageEvent<ToWorker>) => void) | null;
}

const scope = self as unknown as Scope;
let core: CalciumCore | null = null;
let newest: Int32Array | null = null;

scope.onmessage = ({ data }) => {
  try {
    answer(data);
  } catch (error) {
    const id = 'id' in data ? data.id : 0;
    if (error instanceof Superseded) scope.postMessage({ kind: 'superseded', id });
    else scope.postMessage({ kind: 'failed', id, code: problemOf(error) });
  }
};

function answer(message: ToWorker): void {
  if (message.kind === 'volume') {
    newest = message.newest;
    const { values, classes, grid } = message.volume;
    let choice: Choice = { by: 'processor', why: 'small', renderer: '' };
    core = new CalciumCore(message.volume, message.rule, () => {
      const found = collectByBest(values, classes, grid.shape);
      choice = found.choice;
      return found.listed;
    });
    scope.postMessage({ kind: 'ready', listed: core.listed, millis: core.listingMillis, choice });
    return;
  }
  if (core === null) throw new Error('no volume');
  const { id } = message;
  switch (message.kind) {
    case 'compute': {
      const { request } = message;
      const stale = () => newest !== null && Atomics.load(newest, 0) !== id;
      if (stale()) throw new Superseded();
      if (request.currentSlice !== undefined) {
        const mask = core.slice(request.currentSlice, request.thresholdHu);
        scope.postMessage({ kind: 'slice', id, mask }, [mask.start.buffer, mask.stop.buffer, mask.regionClass.buffer]);
      }
      const result = core.compute(request, stale);
      const { runs } = result;
      scope.postMessage({ kind: 'result', id, result }, [
        runs.sliceStart.buffer, runs.start.buffer, runs.stop.buffer, runs.lesion.buffer,
      ]);
      return;
    }
    case 'add':
      scope.postMessage({ kind: 'added', id, lesion: core.add(message.voxel, message.thresholdHu) });
      return;
    case 'values':
      scope.postMessage({ kind: 'values', id, values: core.valuesAt(message.voxels) });
  }
}

scope.postMessage({ kind: 'alive' });
