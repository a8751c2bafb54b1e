// The table of runs: grouped, sorted, live, and still under the mouse.
//
//   mount(element, store, {onMenu}) -> {destroy, apply}
//     reads  runs, healths, alerts, total, hidden, loading, view ({sort, grouped}), chosen (Set of run ids), boot, connection
//     writes chosen
//   While the pointer is over the table its order doesn't change: "order changed" waits as a pill until it is clicked or the
//   pointer leaves. Rows beyond the first screenfuls are made when they come near.

import { formatCount, plural } from "../core/format.js";
import { byUrgency } from "./alerts.js";
import { el, setText } from "./element.js";
import { createRow } from "./runs_row.js";
import { createSparks } from "./runs_sparks.js";
import { arrange, databaseText, storedText } from "./runs_text.js";

const CHUNK = 120;
const HEADS = [
  ["run", "Run"],
  ["norm", "Gradient norm"],
  ["loss", "Loss"],
  ["step", "Step"],
  ["rate", "Speed"],
  ["age", "Last point"],
  ["started", "Started"],
  ["duration", "Duration"],
];

export function mount(element, store, { onMenu, more }) {
  const { boot } = store.get();
  const owner = boot.role === "owner";
  const table = el("table", { class: "runs" }, head(owner));
  const pill = el("button", { class: "pill runs-pill", type: "button", hidden: true });
  const end = el("div", { class: "runs-end" });
  element.append(pill, table, end);
  const rows = new Map();
  const sparks = createSparks(store, rows);
  const context = {
    base: boot.base,
    owner,
    onMenu,
    onSelect: (run, checked) => choose(store, run.id, checked),
    selected: (id) => store.get().chosen.has(id),
    knownOf: (id) => ({ alerts: openAlerts.get(id), health: store.get().healths.get(id) }),
  };
  let openAlerts = new Map();
  const sortAlerts = () => (openAlerts = Map.groupBy(byUrgency((store.get().alerts ?? []).filter((alert) => alert.cleared_step === null)), (alert) => alert.run_id));
  const state = { order: "", limit: CHUNK, over: false, closed: new Set() };
  const now = () => Date.now() / 1000 + (store.get().connection?.clock ?? 0);

  const visible = () => {
    const { runs, hidden, view } = store.get();
    return arrange([...runs.values()].filter((run) => !hidden.has(run.id)), view);
  };

  function layOut(groups) {
    const bodies = [];
    let left = state.limit;
    for (const { project, runs } of groups) {
      if (left <= 0) break;
      const shown = state.closed.has(project) ? [] : runs.slice(0, left);
      left -= shown.length;
      bodies.push(body(project, runs, shown.map(rowFor)));
    }
    const focused = document.activeElement;
    table.replaceChildren(table.tHead, ...bodies);
    if (focused !== document.activeElement && focused.isConnected) focused.focus();
    sparks.observe();
  }

  function rowFor(run) {
    if (!rows.has(run.id)) rows.set(run.id, createRow(run, context));
    const row = rows.get(run.id);
    row.update(run, now());
    return row.element;
  }

  function body(project, runs, elements) {
    const group = el("tbody", { "data-project": project });
    if (project !== null) group.append(groupHead(project, runs));
    group.append(...elements);
    return group;
  }

  function groupHead(project, runs) {
    const running = runs.filter((run) => run.state === "running").length;
    const closed = state.closed.has(project);
    const toggle = () => {
      if (closed) state.closed.delete(project);
      else state.closed.add(project);
      draw(true);
    };
    const name = el("button", { class: "group-name", type: "button", "aria-expanded": String(!closed), onclick: toggle }, project || "(no project)");
    const facts = [plural(runs.length, "run"), running ? `${formatCount(running)} running` : "", storedText(runs)];
    const count = el("span", { class: "muted" }, facts.filter(Boolean).join(", "));
    return el("tr", { class: "group" }, el("th", { colspan: HEADS.length + (owner ? 2 : 0), scope: "rowgroup" }, name, " ", count));
  }

  function draw(force = false) {
    const groups = visible();
    const order = JSON.stringify([groups.map(({ project, runs }) => [project, runs.length]), groups.flatMap(({ runs }) => runs.map((run) => run.id)).slice(0, state.limit)]);
    if (order !== state.order) {
      if (state.over && !force && state.order !== "") {
        pill.hidden = false;
        setText(pill, "The list changed. Show");
      } else {
        state.order = order;
        pill.hidden = true;
        layOut(groups);
      }
    }
    refresh();
    end.textContent = endText(store.get());
  }

  function refresh() {
    const { runs } = store.get();
    const time = now();
    for (const [id, row] of rows) {
      const run = runs.get(id);
      if (!run) rows.delete(id);
      else if (row.element.isConnected) row.update(run, time);
    }
  }

  const grow = new IntersectionObserver(async ([entry]) => {
    if (!entry.isIntersecting) return;
    const { runs, total } = store.get();
    if (state.limit < runs.size) state.limit += CHUNK;
    else if (total !== null && runs.size < total) await more();
    else return;
    draw(true);
    // Asked anew: with folded projects the end may still be in sight, and nothing would tell.
    grow.unobserve(end);
    grow.observe(end);
  }, { rootMargin: "600px" });
  grow.observe(end);
  const enter = () => (state.over = true);
  const leave = () => {
    state.over = false;
    draw();
  };
  table.addEventListener("pointerenter", enter);
  table.addEventListener("pointerleave", leave);
  pill.addEventListener("click", () => draw(true));
  const stop = store.subscribe((_, changed) => {
    if (changed.has("alerts")) sortAlerts();
    const forced = changed.has("view") || changed.has("hidden");
    if (forced || changed.has("runs") || changed.has("chosen") || changed.has("alerts") || changed.has("healths") || changed.has("total") || changed.has("loading")) draw(forced);
  });
  const timer = setInterval(refresh, 1000);
  draw(true);
  return {
    apply: () => draw(true),
    destroy() {
      stop();
      clearInterval(timer);
      grow.disconnect();
      sparks.destroy();
      table.remove();
      pill.remove();
      end.remove();
    },
  };
}

function head(owner) {
  const cells = HEADS.map(([key, label]) => el("th", { class: `c-${key}`, scope: "col" }, label));
  const hidden = (key, label) => el("th", { class: `c-${key}`, scope: "col" }, el("span", { class: "visually-hidden" }, label));
  return el("thead", {}, el("tr", {}, owner ? hidden("check", "Select") : null, ...cells, owner ? hidden("menu", "Actions") : null));
}

function endText({ runs, total, loading, database }) {
  if (loading) return runs.size > 0 ? "Loading..." : "";
  return total !== null && runs.size < total ? `${formatCount(runs.size)} of ${formatCount(total)} runs loaded` : databaseText(database);
}

function choose(store, id, checked) {
  const chosen = new Set(store.get().chosen);
  if (checked) chosen.add(id);
  else chosen.delete(id);
  store.set({ chosen });
}
