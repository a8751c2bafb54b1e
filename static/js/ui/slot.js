// The place of the card in the right rail. It is as high as what stood in it when the page was opened, or when somebody last asked
// to see an incident: what comes by itself finds its room there, so that nothing below it moves.
//
//   mount(element) -> {settle, destroy}      settle(): somebody wants to see all of it
//   On a phone the card stands above the curves: one that comes by itself is not shown until then; the sentence tells of it.

export function mount(element) {
  const more = element.querySelector(".slot-more");
  const panels = [...element.querySelectorAll(".panel")];
  let frame = null;

  /** The button has room of its own below the panels, so it covers nothing that can be scrolled to. */
  function tellMore() {
    const bottom = Math.max(...panels.map((panel) => panel.offsetTop + panel.offsetHeight));
    more.hidden = bottom - element.clientHeight < 8;
  }

  function settle() {
    delete element.dataset.held;
    element.style.height = "";
    more.hidden = true;
    frame ??= requestAnimationFrame(() => {
      frame = null;
      element.style.height = `${element.offsetHeight}px`;
      element.dataset.held = element.querySelector(".incident-title") ? "card" : "calm";
    });
  }

  const watch = new ResizeObserver(tellMore);
  for (const panel of panels) watch.observe(panel);
  more.addEventListener("click", settle);
  addEventListener("resize", settle);
  return {
    settle,
    destroy() {
      watch.disconnect();
      removeEventListener("resize", settle);
      if (frame !== null) cancelAnimationFrame(frame);
    },
  };
}
