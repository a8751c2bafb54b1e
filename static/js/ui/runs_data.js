// Keeps the runs list's data current.
//
//   createRuns(store) -> {load(filters), more(), all(), hide(id), show(id), patch(run), destroy}
//   writes to the store:
//     runs     Map id -> RunOut of what is loaded
//     healths  Map id -> {state, sentence} of those that the health engine judged
//     database {bytes, max_bytes}, null for those who may not know
//     total    how many there are under the filters, null before the first answer
//     loading  whether an answer is under way
//     problem  sentence, "" when all is well
//     hidden   Set of ids that are being deleted and may still come back

import { createTurns } from "../core/turns.js";
import { createQueue } from "./queue.js";

const PAGE = 200;
const MOST = 10_000;

export function createRuns(store) {
  const { api, live } = store.get();
  const newer = createQueue(1);
  let filters = {};
  const turns = createTurns();
  /** Whether the filters are still those of a question. */
  let current = turns();
  store.set({ runs: new Map(), healths: new Map(), total: null, loading: true, problem: "", hidden: new Set() });

  const put = (runs, { fresh = false } = {}) => {
    const map = new Map(fresh ? [] : store.get().runs);
    for (const run of runs) map.set(run.id, { ...map.get(run.id), ...run });
    store.set({ runs: map });
  };

  const putHealth = (entries) => store.set({ healths: new Map([...store.get().healths, ...entries]) });

  async function fetchPage(offset, fresh) {
    const counts = current;
    store.set({ loading: true });
    try {
      const page = await api.get("/runs", { ...filters, limit: PAGE, offset });
      if (!counts()) return false;
      putHealth(Object.entries(page.health));
      put(page.runs.map((run) => ({ ...run, bytes: page.bytes?.[run.id] })), { fresh });
      store.set({ database: page.database ?? null, total: page.total, problem: "", loading: false });
      return page.runs.length === PAGE;
    } catch (error) {
      if (counts()) store.set({ problem: error.message, loading: false });
      return false;
    }
  }

  function load(changed) {
    filters = changed;
    current = turns();
    return fetchPage(0, true);
  }

  const more = () => newer.run(() => (store.get().runs.size < store.get().total ? fetchPage(store.get().runs.size, false) : false));

  async function all() {
    while (store.get().runs.size < Math.min(store.get().total ?? 0, MOST) && (await more()));
  }

  const remove = (id) => {
    const map = new Map(store.get().runs);
    if (map.delete(id)) store.set({ runs: map, total: Math.max(0, (store.get().total ?? 1) - 1) });
  };

  const known = (run) => store.get().runs.has(run);
  const unfiltered = () => Object.values(filters).every((value) => !value);
  const on = {
    status: (event) => known(event.run) && put([{ ...event.data, id: event.run }]),
    run: (event) => {
      if (known(event.run)) put([{ ...event.data, id: event.run }]);
      else if (unfiltered() && event.data.project !== undefined) {
        put([{ ...event.data, id: event.run }]);
        store.set({ total: (store.get().total ?? 0) + 1 });
      } else newer.run(() => load(filters));
    },
    health: (event) => putHealth([[event.run, event.data]]),
    run_deleted: (event) => remove(event.run),
  };
  const stops = [live.on("event", (event) => on[event.kind]?.(event)), live.on("stale", () => load(filters))];
  live.follow(null);

  return {
    load,
    more,
    all,
    patch: (run) => put([run]),
    hide: (id) => store.set({ hidden: new Set([...store.get().hidden, id]) }),
    show: (id) => store.set({ hidden: new Set([...store.get().hidden].filter((other) => other !== id)) }),
    destroy: () => stops.forEach((stop) => stop()),
  };
}
