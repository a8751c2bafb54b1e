// The settings page: theme, links, the server, the session.

import { mountAudit } from "../ui/audit.js";
import { mountChannels } from "../ui/channels.js";
import { setText } from "../ui/element.js";
import { mountShares } from "../ui/share.js";
import { choice, choose } from "../ui/theme.js";
import { toastError } from "../ui/toast.js";
import { ready, startPage } from "./page.js";

const CONNECTION = { live: "live", connecting: "connecting", lost: "lost, trying again", refused: "refused: the session has ended", revoked: "withdrawn" };

const { store, api, boot, live } = startPage({ name: () => "Settings" });
live.follow(null);
setText(document.querySelector("#address"), location.origin + boot.base);
store.subscribe(({ connection }) => setText(document.querySelector("#link-state"), CONNECTION[connection.state]));

const themes = document.querySelector("#themes");
const paint = () => {
  for (const button of themes.children) button.setAttribute("aria-pressed", String(button.dataset.themeChoice === choice()));
};
themes.addEventListener("click", ({ target }) => {
  if (!target.dataset.themeChoice) return;
  choose(target.dataset.themeChoice);
  paint();
});
paint();

document.querySelector("#end").addEventListener("click", async () => {
  try {
    await api.post("/session/end");
    location.assign(`${boot.base}/`);
  } catch (error) {
    toastError(error);
  }
});

mountChannels(document.querySelector("#channels"), store);
if (document.querySelector("#audit")) mountAudit(document.querySelector("#audit"), store);
try {
  const { runs } = await api.get("/runs", { limit: 500 });
  mountShares(document.querySelector("#shares"), store, { names: new Map(runs.map((run) => [run.id, `${run.project} / ${run.name}`])) });
} catch (error) {
  toastError(error);
}
ready();
