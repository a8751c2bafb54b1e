// Decides when what is drawn: canvases and small text at most ten times a second, Plotly's charts as often as they leave the
// main thread free. Nothing is drawn while the page is hidden.

const EVERY = 100;
/** Charts together take at most one part in so many of the main thread. */
const REST = 4;
/** Charts wait so long for the numbers of what a person wants to see: drawing them twice takes longer than most answers. */
const PATIENCE = 150;

/**
 * @param {() => object} sceneOf what to draw: {range, cursor, newest}
 * @param {object} panels `quick`, `charts`: lists of what has draw(scene) and drawOverlay(scene), charts also `cost`, the ms that
 *   Plotly took for the last drawing; `after(scene)` is called when something was painted; `busy()` says whether numbers are
 *   awaited
 */
export function createPainter(sceneOf, { quick, charts, after, busy }) {
  const painted = new Map();
  let numbers = false;
  let overlay = false;
  let frame = null;
  let timer = null;
  let last = 0;
  let asked = 0;

  function due(panel, now) {
    const before = painted.get(panel);
    const cost = charts.reduce((sum, chart) => sum + chart.cost, 0);
    return before === undefined || now - before >= Math.max(EVERY, REST * cost) - 4;
  }

  function paint(now) {
    frame = null;
    const scene = sceneOf();
    let late = false;
    if (numbers && now - last >= EVERY - 4) {
      last = now;
      numbers = false;
      for (const panel of quick) panel.draw(scene);
      for (const panel of charts) panel.stale = true;
    } else if (numbers) {
      late = true;
    }
    // One chart a frame keeps frames short; the others follow in the next ones.
    const patient = now - asked < PATIENCE && busy();
    const next = charts.filter((panel) => panel.stale && due(panel, now) && !(patient && panel.cost > 0)).sort((a, b) => (painted.get(a) ?? 0) - (painted.get(b) ?? 0))[0];
    if (next) {
      next.draw(scene);
      next.stale = false;
      painted.set(next, now);
    }
    if (overlay) for (const panel of [...quick, ...charts]) if (panel !== next) panel.drawOverlay?.(scene);
    overlay = false;
    after(scene);
    if (late || charts.some((panel) => panel.stale)) again();
  }

  /** Charts that rest are looked at again soon, without a frame for each millisecond of waiting. */
  function again() {
    timer ??= setTimeout(() => {
      timer = null;
      request();
    }, 16);
  }

  function request() {
    if (frame === null && document.visibilityState === "visible") frame = requestAnimationFrame(paint);
  }

  return {
    /** New numbers, another stretch: everything is drawn again. */
    numbers() {
      numbers = true;
      request();
    },
    /** Something a person did: everything is drawn at the next frame, however recent the last was. */
    now() {
      if (!busy()) asked = 0;
      else if (asked === 0) asked = performance.now();
      last = 0;
      painted.clear();
      numbers = true;
      request();
    },
    /** Only the cursor moved. */
    overlay() {
      overlay = true;
      request();
    },
    /** Whether every panel shows the newest numbers. */
    settled: () => !numbers && charts.every((panel) => !panel.stale),
    stop() {
      clearTimeout(timer);
      if (frame !== null) cancelAnimationFrame(frame);
    },
  };
}
