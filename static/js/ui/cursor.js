// One pointer for all panels that share the step axis: hovering puts the cursor, dragging zooms, Shift+drag pans,
// Ctrl+wheel zooms. While the pointer is inside, the view stands still and data flows on beneath.
//
//   attachPointer(element, store, model, { box, onHover, onClick }) -> {destroy, state}
//     state.selection   {from, to} in CSS pixels while a zoom is being dragged, else null
//     box()        {left, right} of the plot within the element, in CSS pixels
//     onHover(y)   optional: what is under the pointer besides the step; returns a patch for the store
//     onClick(step, y)  optional

import { panned, standing, zoomed } from "../core/view.js";

const DRAG = 4;
/** A pointer at rest for this long no longer holds the view: the page is on a second screen, not in use. */
const IDLE = 15_000;

export function attachPointer(element, store, model, { box, onHover = () => ({}), onClick = () => {} }) {
  let drag = null;
  let idle = null;
  const state = { selection: null };

  const shareOf = (x) => {
    const { left, right } = box();
    return Math.min(1, Math.max(0, (x - left) / (right - left)));
  };

  const stepOf = (x) => {
    const range = model.range();
    return Math.min(range.to - 1, Math.floor(range.from + shareOf(x) * (range.to - range.from)));
  };

  function local(event) {
    const bounds = element.getBoundingClientRect();
    return { x: event.clientX - bounds.left, y: event.clientY - bounds.top };
  }

  function hold() {
    clearTimeout(idle);
    idle = setTimeout(() => drag === null && release(), IDLE);
    if (!store.get().frozen && store.get().view.from === null) {
      store.set({ frozen: { range: model.range(), newest: model.newest() } });
    }
  }

  function release() {
    clearTimeout(idle);
    store.set({ cursor: null, hover: null, frozen: null });
  }

  function onMove(event) {
    const { x, y } = local(event);
    if (drag === null) {
      // A finger passing over while the page scrolls isn't a hover.
      if (event.pointerType === "touch") return;
      const { left, right } = box();
      if (x < left || x > right) {
        if (store.get().cursor !== null) release();
        return;
      }
      hold();
      store.set({ cursor: stepOf(x), ...onHover(y, x) });
      return;
    }
    if (Math.abs(x - drag.x) >= DRAG) drag.moved = true;
    if (!drag.moved) return;
    if (drag.pan) {
      const span = drag.range.to - drag.range.from;
      const { left, right } = box();
      const steps = -((x - drag.x) / (right - left)) * span;
      store.set({ frozen: null, view: panned(drag.range, steps, model.first(), model.newest()) });
    } else {
      state.selection = { from: Math.min(drag.x, x), to: Math.max(drag.x, x) };
      store.set({ cursor: stepOf(x), dragging: {} });
    }
  }

  function onDown(event) {
    if (event.button !== 0) return;
    const { x } = local(event);
    drag = { x, pan: event.shiftKey, moved: false, range: model.range(), before: store.get().view };
    element.setPointerCapture(event.pointerId);
    hold();
  }

  function onUp(event) {
    if (drag === null) return;
    const { x, y } = local(event);
    const { moved, pan, before } = drag;
    const start = drag.x;
    drag = null;
    state.selection = null;
    if (!moved) {
      store.set({ cursor: stepOf(x), ...onHover(y, x) });
      onClick(stepOf(x), y, x);
    } else if (pan) {
      store.set({ zoomedFrom: before });
    } else {
      const [a, b] = [stepOf(Math.min(start, x)), stepOf(Math.max(start, x)) + 1];
      store.set({ frozen: null, view: standing(a, b, model.first(), model.newest()), zoomedFrom: before });
    }
    if (event.pointerType === "touch") store.set({ frozen: null });
  }

  function onCancel() {
    drag = null;
    state.selection = null;
    release();
  }

  function onWheel(event) {
    if (!event.ctrlKey) return;
    event.preventDefault();
    const { x } = local(event);
    const before = store.get().view;
    const view = zoomed(model.range(), stepOf(x), Math.exp(event.deltaY / 300), model.first(), model.newest());
    store.set({ frozen: null, view, zoomedFrom: before });
  }

  const onLeave = () => drag === null && release();
  const handlers = { pointermove: onMove, pointerdown: onDown, pointerup: onUp, pointercancel: onCancel, pointerleave: onLeave };
  for (const [type, handler] of Object.entries(handlers)) element.addEventListener(type, handler);
  element.addEventListener("wheel", onWheel, { passive: false });

  return {
    state,
    destroy() {
      clearTimeout(idle);
      for (const [type, handler] of Object.entries(handlers)) element.removeEventListener(type, handler);
      element.removeEventListener("wheel", onWheel);
    },
  };
}
