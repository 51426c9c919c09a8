// Makes the viewer's host out of the pinned OHIF.
export async function buildHost() {
  throw new Error('not made yet');
}
