// What the header says. Pure.

import { formatDuration } from "../core/format.js";

/** How many alerts are open, and the gravest severity among those that nobody has seen to ("" for none). */
export function worst(alerts) {
  const open = (alerts ?? []).filter((a) => a.cleared_step === null);
  const severity = ["critical", "warning", "info"].find((s) => open.some((a) => a.severity === s && !a.acknowledged));
  return { open: open.length, severity: severity ?? "" };
}

/** What to say about the connection, "" while all is well. `lastPointAge` in seconds, null when there is no point. */
export function connectionSentence(connection, lastPointAge) {
  const last = lastPointAge === null ? "" : `, last point ${formatDuration(lastPointAge)} ago`;
  if (connection?.state === "lost") return `connection lost${last || ", trying again"}`;
  if (connection?.state === "revoked") return "this link was withdrawn";
  return connection?.state === "refused" ? "session ended: gradwatch open" : "";
}
