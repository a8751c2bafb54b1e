// What an owner does with runs: name, tags and notes in one dialog; delete with undo; the menu of a row.
//
//   runMenu(store, data, run, anchor)
//   deleteRuns(store, data, runs)      hides them at once; the server is told when the undo time is over

import { plural } from "../core/format.js";
import { copyText } from "./copy.js";
import { button, openDialog, openMenu } from "./dialog.js";
import { el } from "./element.js";
import { parseTags } from "./runs_text.js";
import { openShare } from "./share.js";
import { toast, toastError } from "./toast.js";

const UNDO_MS = 8000;

export function runMenu(store, data, run, anchor) {
  openMenu(anchor, [
    { label: "Name, tags and notes", run: () => editRun(store, data, run) },
    { label: "Share", run: () => openShare(store, { runs: [run] }) },
    { label: "Copy id", run: () => copyText(run.id).then(() => toast(`Copied ${run.id}`), toastError) },
    { label: "Delete", danger: true, run: () => deleteRuns(store, data, [run]) },
  ]);
}

export function editRun(store, data, run) {
  openDialog("Name, tags and notes", (body, foot, close) => {
    const name = el("input", { type: "text", id: "edit-name", value: run.name, maxlength: 200, required: true });
    const tags = el("input", { type: "text", id: "edit-tags", value: (run.tags ?? []).join(", "), placeholder: "baseline, paper" });
    const notes = el("textarea", { id: "edit-notes", maxlength: 20_000, rows: 5 });
    notes.value = run.notes;
    const field = (id, label, input, hint = "") => el("div", { class: "field" }, el("label", { for: id }, label), input, hint ? el("span", { class: "hint" }, hint) : null);
    const save = async (event) => {
      event.preventDefault();
      try {
        const saved = await store.get().api.patch(`/runs/${encodeURIComponent(run.id)}`, { name: name.value.trim(), tags: parseTags(tags.value), notes: notes.value });
        data.patch(saved.run ?? saved);
        close();
      } catch (error) {
        toastError(error);
      }
    };
    body.append(
      el("form", { id: "edit-run", class: "stack", onsubmit: save }, field("edit-name", "Name", name), field("edit-tags", "Tags", tags, "Separated by commas."), field("edit-notes", "Notes", notes)),
    );
    foot.append(button("Cancel", close), el("button", { class: "button primary", type: "submit", form: "edit-run" }, "Save"));
  });
}

export function deleteRuns(store, data, runs) {
  const { api } = store.get();
  for (const run of runs) data.hide(run.id);
  store.set({ chosen: new Set() });
  const what = runs.length === 1 ? `Deleted ${runs[0].name}.` : `Deleted ${plural(runs.length, "run")}.`;
  const commit = () => {
    removeEventListener("pagehide", box.close);
    for (const run of runs) {
      api.delete(`/runs/${encodeURIComponent(run.id)}`).catch((error) => {
        data.show(run.id);
        toastError(error);
      });
    }
  };
  const undo = () => {
    removeEventListener("pagehide", box.close);
    for (const run of runs) data.show(run.id);
  };
  const box = toast(what, { ms: UNDO_MS, action: { label: "Undo", run: undo }, onGone: commit });
  // Leaving the page before the time is over means it, too.
  addEventListener("pagehide", box.close);
}
