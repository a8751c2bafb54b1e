// Who changed what on this server, the newest first.
//
//   mountAudit(element, store) -> {destroy, reload}   owners only: the server refuses everyone else
//   whatText(entry): pure

import { formatAgo, formatTime } from "../core/format.js";
import { button } from "./dialog.js";
import { el } from "./element.js";
import { toastError } from "./toast.js";

const FIRST = 20;
const MOST = 1000;

/** What a request did, in words; one that isn't in the table is shown as it is. */
const WORDS = {
  "POST rules": "made a rule",
  "PUT rules": "changed a rule",
  "DELETE rules": "removed a rule",
  "POST shares": "made a share link",
  "DELETE shares": "withdrew a share link",
  "POST channels": "added a channel",
  "PUT channels": "changed a channel",
  "DELETE channels": "removed a channel",
  "POST channels test": "sent a test message",
  "POST alerts acknowledge": "marked an alert as seen",
  "POST alerts mute": "muted an alert",
  "PATCH runs": "changed a run",
  "DELETE runs": "deleted a run",
  "POST tokens": "made a token",
  "DELETE tokens": "revoked a token",
};

export function whatText({ what }) {
  const [method, path] = what.split(" ");
  const words = path.split("/").filter((part) => part && !part.startsWith("{") && part !== "api" && part !== "v1");
  return WORDS[[method, ...words].join(" ")] ?? what;
}

export function mountAudit(element, store) {
  const list = el("ul", { class: "share-list", "aria-label": "Changes" });
  const more = el("p", {});
  element.append(list, more);
  async function load(limit = FIRST) {
    try {
      const { entries } = await store.get().api.get("/audit", { limit });
      const now = Date.now() / 1000;
      list.replaceChildren(...entries.map((entry) => row(entry, now)));
      if (!entries.length) list.append(el("li", { class: "muted" }, "Nothing has been changed yet."));
      more.replaceChildren(limit === FIRST && entries.length === FIRST ? button("Show more", () => load(MOST), "plain") : "");
    } catch (error) {
      toastError(error);
    }
  }
  load();
  return { reload: load, destroy: () => element.replaceChildren() };
}

function row(entry, now) {
  const who = entry.who === "server" ? "with the server's token" : `by ${entry.who || "somebody"}`;
  const from = entry.address ? `, from ${entry.address}` : "";
  return el(
    "li",
    { class: "share" },
    el("div", { class: "share-text" }, el("span", {}, whatText(entry)), el("span", { class: "muted ellipsis", title: entry.target }, `${who}${from}${entry.target ? ` · ${entry.target}` : ""}`)),
    el("span", { class: "muted push", title: formatTime(entry.time) }, formatAgo(now - entry.time)),
  );
}
