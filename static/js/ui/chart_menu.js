// The menu of a chart: an alert on what it shows, and the chart as a picture.
//
//   mountChartMenu(place, store, { chart, title, what, alerts }) -> {destroy}
//     place    element that the button is put into
//     chart    element that becomes the picture
//     title    what the picture and its file are called
//     what     function() -> [names of runs]; default: project and name of the store's run
//     alerts   function() -> [{label, preset}], rules to begin with; owners only

import { openMenu } from "./dialog.js";
import { el, icon } from "./element.js";
import { savePicture } from "./picture.js";
import { openRuleForm } from "./ruleform.js";
import { toastError } from "./toast.js";

const namesOf = (store) => () => [store.get().run.project, store.get().run.name];

export function mountChartMenu(place, store, { chart, title, what = namesOf(store), alerts = () => [] }) {
  const save = (kind) => () => {
    const names = what();
    savePicture(chart, { title: `${names.join(" / ")}: ${title}`, name: [...names, title], kind }).catch(toastError);
  };
  const items = () => [...alertItems(store, alerts()), { label: "Save as PNG", run: save("png") }, { label: "Save as SVG", run: save("svg") }];
  const button = el("button", { type: "button", class: "chart-menu", "aria-label": `What to do with ${title.toLowerCase()}`, "aria-haspopup": "menu", onclick: () => openMenu(button, items()) }, icon("M4 10h.1M10 10h.1M16 10h.1"));
  place.append(button);
  return { destroy: () => button.remove() };
}

/** Menu items that open the form of a rule for the run that is shown. */
export function alertItems(store, rules) {
  if (store.get().boot.role !== "owner") return [];
  return rules.map(({ label, preset }) => ({ label, run: () => openRuleForm(store, { preset, run: store.get().run }) }));
}

/** What an alert on a node of the module tree begins with. */
export function alertOn(node) {
  if (node.name === "") return { label: "Alert on the whole model", preset: { statistic: "global_grad_norm" } };
  const where = node.kind === "group" ? { groups: node.name, tensors: "" } : { tensors: node.name, groups: "" };
  return { label: `Alert on ${node.name}`, preset: { statistic: "grad_norm", ...where } };
}
