// The alerts page: every run's alerts, the open ones first.

import { mount as mountAlerts } from "../ui/alerts.js";
import { ready, startPage } from "./page.js";

const { store, api, live } = startPage({ name: () => "Alerts" });
live.follow(null);

const which = document.querySelector("#which");
const show = () => (new URLSearchParams(location.search).get("show") === "all" ? "all" : "open");
const list = mountAlerts(document.querySelector("#alerts"), store, {
  showRun: true,
  limit: 100,
  filter: (alert) => show() === "all" || alert.cleared_step === null,
  empty: "Nothing is wrong at the moment: no alert is open.",
});

function paint() {
  for (const choice of which.children) choice.setAttribute("aria-pressed", String(choice.dataset.which === show()));
  list.redraw();
}

which.addEventListener("click", ({ target }) => {
  if (!target.dataset.which) return;
  history.pushState(null, "", target.dataset.which === "all" ? "?show=all" : location.pathname);
  paint();
});
addEventListener("popstate", paint);
store.subscribe((state, changed) => changed.has("alerts") && ready());
paint();

const { runs } = await api.get("/runs", { limit: 500 });
store.set({ runs: new Map(runs.map((run) => [run.id, run])) });
