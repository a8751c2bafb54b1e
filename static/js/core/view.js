// Which steps the page shows. Pure: a view and the extent of the run in, a view or a range of steps out.
//
// A view is `{ from, to, last }`, numbers or null: nothing set means the whole run, growing; `last` means the newest so many
// steps, sliding; `from` and `to` (exclusive) mean a stretch that stands still. The first two follow the run live.

/** The narrowest stretch that can be zoomed to, in steps. */
export const MIN_SPAN = 8;

export const WHOLE = Object.freeze({ from: null, to: null, last: null });

export const isLive = (view) => view.from === null;

/** The steps `[from, to)` that a view shows of a run whose steps are `first..newest` (-1: none yet). */
export function rangeOf(view, first, newest) {
  const start = Math.max(0, first);
  const end = Math.max(start, newest) + 1;
  if (view.from !== null) return { from: view.from, to: Math.max(view.to ?? end, view.from + MIN_SPAN) };
  if (view.last !== null) return { from: Math.max(start, end - view.last), to: Math.max(end, start + MIN_SPAN) };
  return { from: start, to: Math.max(end, start + MIN_SPAN) };
}

/** A standing view of `[from, to)`, kept inside the run and at least {@link MIN_SPAN} wide. */
export function standing(from, to, first, newest) {
  const start = Math.max(0, first);
  const end = Math.max(newest + 1, start + MIN_SPAN);
  const span = Math.min(Math.max(MIN_SPAN, Math.round(to - from)), end - start);
  const begin = Math.round(Math.min(Math.max(start, from), end - span));
  return { from: begin, to: begin + span, last: null };
}

/** Zooms `range` by `factor` (< 1: closer) so that `step` stays where it is; zooming out over everything follows again. */
export function zoomed(range, step, factor, first, newest) {
  const span = range.to - range.from;
  const target = Math.max(MIN_SPAN, span * factor);
  if (target >= Math.max(newest + 1, 1) - Math.max(0, first)) return WHOLE;
  const share = (step - range.from) / span;
  return standing(step - share * target, step + (1 - share) * target, first, newest);
}

/** Shifts a range by `steps`. */
export function panned(range, steps, first, newest) {
  return standing(range.from + steps, range.to + steps, first, newest);
}
