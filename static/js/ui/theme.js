// The theme: "system" (follow the computer), "light" or "dark". <html data-theme> always holds the concrete one.
//
//   token("--accent")            the value of a design token in the theme shown, for canvases and Plotly
//   onThemeChange(fn) -> stop    fn(theme) after each change, also when the computer switches at dusk
//   mount(button) -> {destroy}   makes a button cycle system -> light -> dark

const KEY = "gradwatch.theme";
const CHOICES = ["system", "light", "dark"];
const ICONS = {
  system: "M3 4.5h14v9H3zM7 17h6M10 13.5V17",
  light: "M10 6.5a3.5 3.5 0 1 0 0 7 3.5 3.5 0 0 0 0-7zM10 2v1.5M10 16.5V18M2 10h1.5M16.5 10H18M4.3 4.3l1.1 1.1M14.6 14.6l1.1 1.1M4.3 15.7l1.1-1.1M14.6 5.4l1.1-1.1",
  dark: "M16.5 12.2A7 7 0 0 1 7.8 3.5a7 7 0 1 0 8.7 8.7z",
};
const system = matchMedia("(prefers-color-scheme: dark)");
const listeners = new Set();
/** Values of tokens in the theme shown. Reading a style costs a recalculation, and canvases ask for many each frame. */
const values = new Map();

export function token(name) {
  if (!values.has(name)) values.set(name, getComputedStyle(document.documentElement).getPropertyValue(name).trim());
  return values.get(name);
}

export function onThemeChange(fn) {
  listeners.add(fn);
  return () => listeners.delete(fn);
}

export function choice() {
  try {
    const saved = localStorage.getItem(KEY);
    return CHOICES.includes(saved) ? saved : "system";
  } catch {
    return "system";
  }
}

export function choose(value) {
  try {
    localStorage.setItem(KEY, value);
  } catch {
    // storage is switched off: the choice lasts as long as the page
  }
  show(value);
}

function show(value) {
  const theme = value === "system" ? (system.matches ? "dark" : "light") : value;
  if (theme === document.documentElement.dataset.theme) return;
  document.documentElement.dataset.theme = theme;
  values.clear();
  for (const fn of listeners) fn(theme);
}

system.addEventListener("change", () => show(choice()));

export function mount(button) {
  let current = choice();
  const path = button.querySelector("path");
  const paint = () => {
    path.setAttribute("d", ICONS[current]);
    button.title = `Theme: ${current === "system" ? "as the computer" : current}`;
    button.setAttribute("aria-label", button.title);
  };
  const next = () => {
    current = CHOICES[(CHOICES.indexOf(current) + 1) % CHOICES.length];
    choose(current);
    paint();
  };
  button.addEventListener("click", next);
  paint();
  return { destroy: () => button.removeEventListener("click", next) };
}
