// What every page needs: store, API, live socket, header, and alerts for the header's count.
//
//   const { store, api, live } = startPage({ name: () => "Runs" });
//   ready(step)   tells browser tests that the page has drawn

import { createApi, readBoot } from "../io/api.js";
import { createLive } from "../io/live.js";
import { createStore } from "../store.js";
import { followAlerts } from "../ui/alerts.js";
import { mount as mountHeader } from "../ui/header.js";

export function startPage({ name, initial = {}, run = "" }) {
  const boot = readBoot();
  const api = createApi(boot);
  const live = createLive(boot);
  const store = createStore({ boot, api, live, run: boot.run ?? null, connection: live.connection(), ...initial });
  live.on("connection", (connection) => store.set({ connection }));
  mountHeader(document.querySelector("#header"), store, { boot, name });
  const alerts = followAlerts(store, { run });
  return { boot, api, live, store, alerts };
}

export function ready(step = null) {
  document.body.dataset.ready = "1";
  if (step !== null) document.body.dataset.lastStep = String(step);
}
