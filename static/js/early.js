// Runs before the first paint, as a plain script: puts the concrete theme on <html> so that nothing flashes.
// The choice is "light", "dark" or "system": ?theme= of the address first, then that of a shared view, then what was chosen
// before (js/ui/theme.js).
(function () {
  let choice = new URLSearchParams(location.search).get("theme") ?? document.documentElement.dataset.asked;
  if (choice !== "light" && choice !== "dark") {
    try {
      choice = localStorage.getItem("gradwatch.theme");
    } catch {
      choice = null; // storage is switched off
    }
  }
  const dark = matchMedia("(prefers-color-scheme: dark)").matches;
  document.documentElement.dataset.theme = choice === "light" || choice === "dark" ? choice : dark ? "dark" : "light";
})();
