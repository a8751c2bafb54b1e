// The runs page: wires filters, list, selection bar and the empty state.

import { plural } from "../core/format.js";
import { addCopyButtons } from "../ui/copy.js";
import { setText } from "../ui/element.js";
import { addKeys, typing } from "../ui/keys.js";
import { createRuns } from "../ui/runs_data.js";
import { deleteRuns, runMenu } from "../ui/runs_edit.js";
import { mount as mountFilter } from "../ui/runs_filter.js";
import { mount as mountList } from "../ui/runs_list.js";
import { ready, startPage } from "./page.js";

const MOST_COMPARED = 5;

const { store, boot } = startPage({ name: () => "Runs", initial: { view: { sort: "started", grouped: true }, chosen: new Set() } });
const data = createRuns(store);
const filter = mountFilter(document.querySelector("#filter"), store, {
  onFilters: (filters) => data.load(filters).then(() => ready()),
  onView: async (view) => {
    store.set({ view });
    // Another order than the server's needs all runs here.
    if (view.sort !== "started") await data.all();
  },
});
mountList(document.querySelector("#runs"), store, { onMenu: (run, anchor) => runMenu(store, data, run, anchor), more: data.more });

const empty = document.querySelector("#empty");
const none = document.querySelector("#none");
const problem = document.querySelector("#problem");
const list = document.querySelector("#runs");
const bar = document.querySelector("#chosen");
addCopyButtons(empty);
document.querySelector("#clear").addEventListener("click", filter.clear);

function chosenRuns() {
  const { chosen, runs } = store.get();
  return [...chosen].map((id) => runs.get(id)).filter(Boolean);
}

document.querySelector("#compare").addEventListener("click", () => {
  location.assign(`${boot.base}/compare?${chosenRuns().map((run) => `run=${encodeURIComponent(run.id)}`).join("&")}`);
});
document.querySelector("#delete").addEventListener("click", () => deleteRuns(store, data, chosenRuns()));
document.querySelector("#unselect").addEventListener("click", () => store.set({ chosen: new Set() }));

function paint(state) {
  const nothing = state.total === 0 && !state.loading && state.runs.size === 0;
  empty.hidden = !nothing || filter.active();
  none.hidden = !nothing || !filter.active();
  list.hidden = nothing;
  list.toggleAttribute("data-loading", state.loading && state.runs.size === 0);
  document.querySelector("#filter").hidden = !empty.hidden;
  problem.hidden = state.problem === "";
  setText(problem, state.problem);
  const count = chosenRuns().length;
  bar.hidden = count === 0;
  setText(document.querySelector("#chosen-count"), `${plural(count, "run")} selected`);
  const compare = document.querySelector("#compare");
  compare.disabled = count < 2 || count > MOST_COMPARED;
  compare.title = count < 2 ? "Choose two to five runs" : count > MOST_COMPARED ? "Five runs at most" : "";
}

store.subscribe(paint);
paint(store.get());
addKeys([["/", "search"]]);
document.addEventListener("keydown", (event) => {
  if (event.key !== "/" || typing(event)) return;
  event.preventDefault();
  filter.focus();
});
