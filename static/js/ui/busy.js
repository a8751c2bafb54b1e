// A thin bar across the top of the page while an answer is awaited. Quick answers never show it.
//
//   mount(element, region) -> {set(busy), destroy}      meanwhile `region` is marked as busy: what it shows is of before

const PATIENCE_MS = 250;

export function mount(element, region) {
  let timer = null;

  function show(shown) {
    element.hidden = !shown;
    region.toggleAttribute("data-busy", shown);
    region.setAttribute("aria-busy", String(shown));
  }

  return {
    set(busy) {
      if (busy === (timer !== null)) return;
      clearTimeout(timer);
      timer = null;
      if (busy) timer = setTimeout(() => show(true), PATIENCE_MS);
      else show(false);
    },
    destroy: () => clearTimeout(timer),
  };
}
