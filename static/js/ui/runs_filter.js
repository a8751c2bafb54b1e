// Search, filters, sort and grouping of the runs list, kept in the address.
//
//   mount(element, store, {onFilters, onView}) -> {destroy, focus}
//     reads `runs` (its projects are offered) and `query`, the state of FIELDS
//     onFilters({q, project, state}), onView({sort, grouped}): called at once and after each change

import { readQuery, writeQuery } from "../core/urlstate.js";
import { el } from "./element.js";
import { SORTS } from "./runs_text.js";

const STATES = ["running", "finished", "failed", "killed", "preempted", "lost"];
const TYPING_MS = 200;

const FIELDS = [
  { key: "q", param: "q", kind: "text", initial: "" },
  { key: "project", param: "project", kind: "text", initial: "" },
  { key: "state", param: "state", kind: "choice", choices: STATES, initial: "" },
  { key: "sort", param: "sort", kind: "choice", choices: Object.keys(SORTS), initial: "started" },
  { key: "grouped", param: "grouped", kind: "flag", initial: true },
];

export function mount(element, store, { onFilters, onView }) {
  let query = readQuery(FIELDS, location.search);
  const search = el("input", { type: "search", placeholder: "Search runs", title: "Words in name, project, tag or who started it; who:ann for one person's", "aria-label": "Search names, tags and people", "aria-keyshortcuts": "/" });
  const project = el("select", { "aria-label": "Project" });
  const state = el("select", { "aria-label": "State" }, el("option", { value: "" }, "Any state"), ...STATES.map((name) => el("option", {}, name)));
  const sort = el("select", { "aria-label": "Sort by" }, ...Object.entries(SORTS).map(([key, { label }]) => el("option", { value: key }, `Sort: ${label}`)));
  const grouped = el("input", { type: "checkbox", id: "grouped" });
  const box = el("div", { class: "runs-filter", role: "search" }, search, project, state, sort, el("label", { class: "check", for: "grouped" }, grouped, "By project"));
  element.append(box);
  const projects = new Set();
  let timer = null;

  const offerProjects = () => {
    const before = projects.size;
    for (const run of store.get().runs?.values() ?? []) projects.add(run.project);
    if (query.project) projects.add(query.project);
    if (projects.size === before && project.options.length) return;
    const options = [...projects].sort().map((name) => el("option", { value: name }, name || "(no project)"));
    project.replaceChildren(el("option", { value: "" }, "All projects"), ...options);
    project.value = query.project;
  };
  const paint = () => {
    search.value = query.q;
    offerProjects();
    project.value = query.project;
    state.value = query.state;
    sort.value = query.sort;
    grouped.checked = query.grouped;
  };
  const tell = (filters = true) => {
    if (filters) onFilters({ q: query.q, project: query.project, state: query.state });
    onView({ sort: query.sort, grouped: query.grouped });
  };
  const change = (patch, { push = true } = {}) => {
    // What is still being typed counts, too: another filter chosen meanwhile must not lose it.
    clearTimeout(timer);
    const wanted = { ...query, q: search.value.trim(), ...patch };
    const filters = ["q", "project", "state"].some((key) => wanted[key] !== query[key]);
    query = wanted;
    const address = `${location.pathname}${writeQuery(FIELDS, query)}`;
    if (push) history.pushState(null, "", address);
    else history.replaceState(null, "", address);
    tell(filters);
  };
  search.addEventListener("input", () => {
    clearTimeout(timer);
    timer = setTimeout(() => change({}, { push: false }), TYPING_MS);
  });
  project.addEventListener("change", () => change({ project: project.value }));
  state.addEventListener("change", () => change({ state: state.value }));
  sort.addEventListener("change", () => change({ sort: sort.value }));
  grouped.addEventListener("change", () => change({ grouped: grouped.checked }));
  const back = () => {
    query = readQuery(FIELDS, location.search);
    paint();
    tell();
  };
  addEventListener("popstate", back);
  const stop = store.subscribe((_, changed) => changed.has("runs") && offerProjects());
  paint();
  tell();
  return {
    focus: () => search.focus(),
    active: () => Boolean(query.q || query.project || query.state),
    clear: () => {
      change({ q: "", project: "", state: "" });
      paint();
    },
    destroy() {
      clearTimeout(timer);
      removeEventListener("popstate", back);
      stop();
      box.remove();
    },
  };
}
