// Read-only links to a run or a comparison.
//
//   openShare(store, {runs, view, moments})   the dialog: make a link, see who can open it, copy it, withdraw older ones
//     runs     [RunOut]: one, or those of a comparison
//     view     function() -> query string of what the page shows now ("?from=..."); "" for the live page
//     moments  whether one chooses between "this moment" and "live" (default); without it a link always carries the view
//   mountShares(element, store, {run, names}) -> {destroy, reload}
//     the list of links with their views and "Withdraw"; `run` "" for all runs (the settings page), `names` Map run id -> name
//   Owners only: the server refuses everyone else.

import { formatAgo, formatDuration, formatTime, plural } from "../core/format.js";
import { createTurns } from "../core/turns.js";
import { copyButton } from "./copy.js";
import { button, openDialog } from "./dialog.js";
import { el } from "./element.js";
import { toast, toastError } from "./toast.js";

const DAY = 86400;
const LIFETIMES = [
  ["1 day", DAY],
  ["7 days", 7 * DAY],
  ["30 days", 30 * DAY],
  ["until withdrawn", null],
];
const MODES = [
  ["live", "Live", "Opens on the newest steps and follows the run."],
  ["moment", "This moment", "Opens on what you see now: range, layers, step and colours. The viewer can go live from there."],
];

export function openShare(store, { runs, view = () => "", moments = true }) {
  const [run, ...others] = runs;
  const what = others.length ? `these ${runs.length} runs` : "this run";
  return openDialog(others.length ? `Share a comparison of ${runs.length} runs` : `Share ${run.name}`, (body, foot, close) => {
    const list = el("div", {});
    const shares = mountShares(list, store, { run: run.id });
    const made = el("div", { class: "share-made", hidden: true });
    const snapshot = `${store.get().boot.base}/api/v1${snapshotOf(runs, view())}`;
    body.append(
      el("p", { class: "muted" }, `Whoever has the link sees ${what} and the alerts, live, without an account, and can change nothing. Host, command line, paths, error messages and private settings (those with a lock in the run's configuration) stay hidden.`),
      shareForm(store, { run, others, view, moments, made, shares, snapshot }),
      made,
      list,
    );
    foot.append(el("a", { class: "button", href: snapshot, download: "", title: "One HTML file that opens without this server" }, "Save a snapshot"));
    foot.append(button("Done", close));
  });
}

/** Where the snapshot of a run or a comparison is saved from. A comparison keeps its horizontal axis. */
export function snapshotOf(runs, view) {
  if (runs.length === 1) return `/runs/${encodeURIComponent(runs[0].id)}/snapshot`;
  const axis = new URLSearchParams(view).get("x") ?? "step";
  return `/compare/snapshot?${runs.map(({ id }) => `run=${encodeURIComponent(id)}&`).join("")}x=${axis}`;
}

/** The view of a link to this moment: with the theme, which the page's own address leaves to each browser. */
export function momentOf(query, theme) {
  return `${query}${query ? "&" : "?"}theme=${theme}`;
}

function shareForm(store, { run, others, view, moments, made, shares, snapshot }) {
  let mode = !moments || view() ? "moment" : "live";
  const hint = el("span", { class: "hint" });
  const modes = el("div", { class: "segmented", role: "group", "aria-label": "What the link shows" });
  const paint = () => {
    for (const choice of modes.children) choice.setAttribute("aria-pressed", String(choice.dataset.mode === mode));
    hint.textContent = MODES.find(([key]) => key === mode)[2];
  };
  for (const [key, label] of MODES) {
    const choose = () => {
      mode = key;
      paint();
    };
    modes.append(el("button", { type: "button", "data-mode": key, onclick: choose }, label));
  }
  paint();
  const lifetime = el("select", { id: "share-expires" }, ...LIFETIMES.map(([label, seconds]) => el("option", { value: seconds ?? "", selected: seconds === 30 * DAY }, label)));
  const label = el("input", { type: "text", id: "share-label", maxlength: 200, placeholder: "for Ana, Tuesday's review" });
  const password = el("input", { type: "text", id: "share-password", maxlength: 256, autocomplete: "off", placeholder: "none" });
  const submit = el("button", { class: "button primary", type: "submit" }, "Make link");
  const make = async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      const shown = moments ? momentOf(view(), document.documentElement.dataset.theme) : view();
      const body = { run: run.id, others: others.map(({ id }) => id), expires_in: lifetime.value === "" ? null : Number(lifetime.value), label: label.value.trim(), password: password.value, view: mode === "live" ? "" : shown };
      showMade(made, await store.get().api.post("/shares", body), snapshot);
      label.value = password.value = "";
      shares.reload();
    } catch (error) {
      toastError(error);
    }
    submit.disabled = false;
  };
  return el(
    "form",
    { class: "share-form", onsubmit: make },
    moments ? el("div", { class: "field" }, modes, hint) : null,
    el("div", { class: "field" }, el("label", { for: "share-expires" }, "Works for"), lifetime),
    el("div", { class: "field" }, el("label", { for: "share-password" }, "Password (optional)"), password),
    el("div", { class: "field" }, el("label", { for: "share-label" }, "Note (optional)"), label),
    submit,
  );
}

function showMade(made, { url, reach }, snapshot) {
  const address = el("input", { type: "text", readonly: true, value: url, "aria-label": "The link", class: "mono" });
  address.addEventListener("focus", () => address.select());
  const copy = copyButton(() => url, "Copy", "primary");
  const ways = reach.ways.map(({ label, command }) => el("li", {}, el("span", {}, label), el("div", { class: "snippet" }, el("pre", {}, command), copyButton(() => command))));
  if (ways.length) ways.push(el("li", {}, "For anybody: ", el("a", { href: snapshot, download: "" }, "save a snapshot"), ", one file that opens without this server, and send that."));
  made.replaceChildren(
    el("div", { class: "share-url" }, address, copy),
    el("p", { class: "note", "data-tone": reach.public ? "" : "warning" }, el("strong", {}, reach.who), reach.advice ? ` ${reach.advice}` : "", ways.length ? " To let others in:" : ""),
    ways.length ? el("ul", { class: "share-ways" }, ...ways) : "",
    el("p", { class: "hint muted" }, "Copy it now: the link isn't shown again."),
  );
  made.hidden = false;
  copy.focus();
}

export function mountShares(element, store, { run = "", names = new Map() } = {}) {
  const { api, live } = store.get();
  const list = el("ul", { class: "share-list", "aria-label": "Links" });
  element.append(list);
  const turns = createTurns();
  /** Making a link asks, and so does the news of it: the newest question's answer stands. */
  const load = async () => {
    const counts = turns();
    try {
      const { shares } = await api.get("/shares", { run });
      if (counts()) draw(list, shares, { api, names, run, reload: load });
    } catch (error) {
      toastError(error);
    }
  };
  const stop = live.on("event", (event) => event.kind === "share" && (!run || event.run === run || event.run === null) && load());
  load();
  return {
    reload: load,
    destroy() {
      stop();
      list.remove();
    },
  };
}

function draw(list, shares, context) {
  const now = Date.now() / 1000;
  const shown = [...shares].sort((a, b) => b.created_at - a.created_at);
  const rows = shown.map((share) => row(share, now, context));
  if (!rows.length) rows.push(el("li", { class: "muted" }, context.run ? "No link to this run yet." : "No links yet. Make one with Share on a run's page."));
  list.replaceChildren(...rows);
}

/** "works for 29 d 4 h", "expired", "withdrawn". */
export function shareState(share, now) {
  if (share.revoked_at !== null) return "withdrawn";
  if (share.expires_at === null) return "works until withdrawn";
  return share.expires_at <= now ? "expired" : `works for ${formatDuration(share.expires_at - now)}`;
}

function row(share, now, { api, names, run, reload }) {
  const state = shareState(share, now);
  const usable = state.startsWith("works");
  const seen = share.last_seen ? `, last ${formatAgo(now - share.last_seen)}` : "";
  const withdraw = async () => {
    try {
      await api.delete(`/shares/${encodeURIComponent(share.id)}`);
      toast("The link no longer works, and pages that were open through it were closed.");
      reload();
    } catch (error) {
      toastError(error);
    }
  };
  const many = share.others.length ? `comparison of ${share.others.length + 1} runs` : "";
  const kind = many || (run ? (share.view ? "a moment" : "live page") : "");
  const title = [run ? "" : (names.get(share.run_id) ?? share.run_id), share.label || kind, share.label ? many : "", share.password ? "password" : ""].filter(Boolean).join(" · ");
  return el(
    "li",
    { class: "share", "data-state": usable ? "usable" : "gone" },
    el("div", { class: "share-text" }, el("span", { class: "ellipsis" }, title), el("span", { class: "muted", title: `made ${formatTime(share.created_at)}` }, `${state} · opened ${plural(share.views, "time")}${seen}`)),
    usable ? button("Withdraw", withdraw, "plain push") : null,
  );
}
