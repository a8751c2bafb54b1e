// Alerts: keeping them current, and the list.
//
//   followAlerts(store, {run}) -> {destroy, reload}
//     loads GET /alerts (of one run, or of all when `run` is "") into store key `alerts` and keeps it current from the
//     live socket's "alert" events. The page itself calls live.follow().
//   mount(element, store, options) -> {destroy}
//     the list, open alerts first. Reads `alerts`, `selected` (alert id), `boot.role`, `connection`.
//     options: showRun   name the run in each row (the alerts page)
//              limit     rows drawn at first (default 30; "Show all" draws the rest)
//              onSelect  function(alert): called on click and Enter; the run page zooms to it. Without it, a row links
//                        to the run at the alert's step
//              filter    function(alert) -> boolean
//              empty     sentence shown when there is nothing
//   byUrgency(alerts), detailText(alert), withAlert(alerts, alert): pure

import { formatAgo, formatCount, formatDuration, formatTime, formatUtc } from "../core/format.js";
import { createTurns } from "../core/turns.js";
import { button, openDialog, openMenu } from "./dialog.js";
import { el } from "./element.js";
import { toast, toastError } from "./toast.js";

const MUTES = [
  ["for 1 hour", 3600],
  ["for 8 hours", 8 * 3600],
  ["for a day", 86400],
  ["for a week", 7 * 86400],
];
const RANK = { critical: 0, warning: 1, info: 2 };

/** Open ones first, the gravest and newest of them on top; then the cleared ones, newest first. */
export function byUrgency(alerts) {
  return [...alerts].sort((a, b) => {
    const open = Number(a.cleared_step !== null) - Number(b.cleared_step !== null);
    if (open) return open;
    const severity = a.cleared_step === null ? RANK[a.severity] - RANK[b.severity] : 0;
    return severity || b.opened_time - a.opened_time || (a.id < b.id ? -1 : 1);
  });
}

/** What happened, from the server's sentence; how it ended; and the worst layers where there are several. */
export function detailText(alert) {
  const parts = [alert.sentence];
  if (alert.cleared_step !== null) parts.push(`Cleared at step ${formatCount(alert.cleared_step)}${alert.reason ? `: ${alert.reason}` : ""}.`);
  if (alert.count > 1 && alert.worst.length > 1) {
    const more = alert.count - Math.min(3, alert.worst.length);
    parts.push(`Worst: ${alert.worst.slice(0, 3).join(", ")}${more > 0 ? ` and ${formatCount(more)} more` : ""}.`);
  }
  return parts.join(" ");
}

/** `alerts` with `alert` put in, or put in place of its older self. */
export function withAlert(alerts, alert) {
  const at = alerts.findIndex((known) => known.id === alert.id);
  return at < 0 ? [...alerts, alert] : alerts.with(at, { ...alerts[at], ...alert });
}

export function followAlerts(store, { run = "" } = {}) {
  const { api, live } = store.get();
  let arrived = [];
  const turns = createTurns();
  const load = async () => {
    arrived = [];
    const counts = turns();
    try {
      const { alerts } = await api.get("/alerts", { run });
      // What an event told while the answer was under way is newer than the answer.
      if (counts()) store.set({ alerts: arrived.reduce(withAlert, alerts) });
    } catch (error) {
      if (error.status !== 401) toastError(error);
    }
  };
  const stops = [
    live.on("event", (event) => {
      if (run && event.run !== run) return;
      if (event.kind === "run_deleted") {
        store.set({ alerts: (store.get().alerts ?? []).filter((alert) => alert.run_id !== event.run) });
      } else if (event.kind === "alert" && event.data.id) {
        arrived.push(event.data);
        store.set({ alerts: withAlert(store.get().alerts ?? [], event.data) });
      }
    }),
    live.on("stale", load),
  ];
  load();
  return { reload: load, destroy: () => stops.forEach((stop) => stop()) };
}

export function mount(element, store, options = {}) {
  const { limit = 30, filter = () => true, empty = "No alert has fired." } = options;
  const list = el("ul", { class: "alert-list", "aria-label": "Alerts" });
  element.append(list);
  let all = false;
  const showAll = () => {
    all = true;
    draw();
  };
  const draw = () => {
    const state = store.get();
    if (!state.alerts) return;
    const alerts = byUrgency(state.alerts.filter(filter));
    const shown = all ? alerts : alerts.slice(0, limit);
    const rows = shown.map((alert) => row(alert, state, store, options));
    if (shown.length < alerts.length) rows.push(el("li", { class: "alert-more" }, button(`Show all ${formatCount(alerts.length)}`, showAll, "plain")));
    if (!rows.length) rows.push(el("li", { class: "alert-none muted" }, empty));
    const focused = list.contains(document.activeElement) ? document.activeElement.closest("li")?.dataset.id : null;
    list.replaceChildren(...rows);
    if (focused) list.querySelector(`li[data-id="${CSS.escape(focused)}"] .alert-main`)?.focus();
  };
  const stop = store.subscribe((_, changed) => ["alerts", "selected", "runs"].some((key) => changed.has(key)) && draw());
  draw();
  const timer = setInterval(() => refreshAges(list, store), 5000);
  return {
    redraw: draw,
    destroy() {
      stop();
      clearInterval(timer);
      list.remove();
    },
  };
}

function row(alert, state, store, options) {
  const open = alert.cleared_step === null;
  const tone = open && alert.severity !== "info" ? alert.severity : "";
  const time = alert.cleared_time ?? alert.opened_time;
  const head = el(
    "span",
    { class: "alert-head" },
    el("span", { class: "dot", "data-tone": tone }),
    el("strong", {}, alert.rule_name || alert.statistic),
    el("span", { class: "alert-age push muted", "data-time": time, title: `${formatTime(time)}\n${formatUtc(time)}` }, agoText(time, state)),
  );
  const detail = el("span", { class: "alert-detail muted" }, detailText(alert));
  const main = mainElement(alert, state, options, head, detail);
  const item = el("li", { class: "alert", "data-id": alert.id, "data-state": open ? "open" : "cleared", "data-severity": alert.severity }, main);
  if (state.selected === alert.id) item.setAttribute("aria-current", "true");
  if (alert.note) item.append(el("p", { class: "alert-note" }, alert.note));
  const mine = open && state.boot.role === "owner" ? [muting(alert, store), acknowledgement(alert, store)] : [];
  if (options.showRun || mine.length) item.append(el("div", { class: "alert-foot" }, options.showRun ? runLine(alert, state) : null, el("span", { class: "push" }), ...mine));
  return item;
}

function mainElement(alert, state, { onSelect }, ...children) {
  if (onSelect) return el("button", { class: "alert-main", type: "button", onclick: () => onSelect(alert) }, ...children);
  const href = `${state.boot.base}/runs/${encodeURIComponent(alert.run_id)}?alert=${encodeURIComponent(alert.id)}`;
  return el("a", { class: "alert-main", href }, ...children);
}

function runLine(alert, state) {
  const run = state.runs?.get?.(alert.run_id);
  return el("span", { class: "alert-run muted ellipsis" }, run ? `${run.project} / ${run.name}` : alert.run_id);
}

function acknowledgement(alert, store) {
  if (alert.acknowledged) return el("span", { class: "alert-ack muted" }, "seen");
  return button("Mark as seen", () => acknowledge(alert, store), "plain alert-ack");
}

/** "muted for 3 h", with a way back, or a button that opens the choice of times. */
function muting(alert, store) {
  const left = (alert.muted_until ?? 0) - Date.now() / 1000;
  if (left > 0) return button(`Muted for ${formatDuration(left)}: unmute`, () => mute(alert, 0, store), "plain alert-ack");
  const open = button("Mute", () => openMenu(open, MUTES.map(([label, seconds]) => ({ label, run: () => mute(alert, seconds, store) }))), "plain alert-ack");
  open.title = "No more messages about this alert for a time";
  return open;
}

async function mute(alert, seconds, store) {
  try {
    const { alert: saved } = await store.get().api.post(`/alerts/${encodeURIComponent(alert.id)}/mute`, { seconds });
    store.set({ alerts: withAlert(store.get().alerts, saved) });
    toast(seconds ? "No messages about this alert for that time: neither that it clears nor that it fires again." : "Messages about this alert are sent again.");
  } catch (error) {
    toastError(error);
  }
}

function acknowledge(alert, store) {
  openDialog("Mark as seen", (body, foot, close) => {
    const note = el("textarea", { id: "ack-note", maxlength: 2000, placeholder: "What you found or did (optional)" });
    body.append(
      el("p", { class: "muted" }, `${alert.rule_name || alert.statistic}: everyone who looks at this run sees that someone took care of it.`),
      el("div", { class: "field" }, el("label", { for: "ack-note" }, "Note"), note),
    );
    const save = async () => {
      try {
        const saved = await store.get().api.post(`/alerts/${encodeURIComponent(alert.id)}/acknowledge`, { note: note.value });
        store.set({ alerts: withAlert(store.get().alerts, saved.alert ?? saved) });
        close();
      } catch (error) {
        toastError(error);
      }
    };
    foot.append(button("Cancel", close), button("Mark as seen", save, "primary"));
  });
}

function agoText(time, state) {
  return formatAgo(Date.now() / 1000 + (state.connection?.clock ?? 0) - time);
}

function refreshAges(list, store) {
  for (const element of list.querySelectorAll(".alert-age")) element.textContent = agoText(Number(element.dataset.time), store.get());
}
