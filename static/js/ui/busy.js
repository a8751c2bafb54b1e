// A thin bar across the top of the page while an answer is awaited. Quick answers never show it.
//
//   mount(element) -> {set(busy), destroy}

const PATIENCE_MS = 250;

export function mount(element) {
  let timer = null;

  return {
    set(busy) {
      if (busy === (timer !== null)) return;
      clearTimeout(timer);
      timer = null;
      if (busy) timer = setTimeout(() => (element.hidden = false), PATIENCE_MS);
      else element.hidden = true;
    },
    destroy: () => clearTimeout(timer),
  };
}
