// Loads what isn't a number and keeps it current: the run itself, its tensors, statistics, marks and rules. Most of it came
// with the page, in the boot data.

import { buildTree, openAtFirst } from "../core/tree.js";
import { toastError } from "./toast.js";

/**
 * @param {object} store with `api`, `live`, `run`  @param {string[]} opened groups that the address asks for
 * @param {object} calls `onTree()`: the tensors are known, or others than before; `onColumns()`: the run's columns changed, feeds
 *   must be asked again; `onCorrected(from, to)`: stored values of these steps are others than before
 */
export function followRun(store, opened, { onTree, onColumns, onCorrected }) {
  const { api, live, boot } = store.get();
  const id = store.get().run.id;
  const path = `/runs/${encodeURIComponent(id)}`;
  let usual = null;
  if (boot.layers) takeTensors(boot.layers);

  async function quietly(work) {
    try {
      await work();
    } catch (error) {
      if (error.status !== 401 && error.status !== 403) toastError(error);
    }
  }

  const loadRun = () =>
    quietly(async () => {
      const { run, segments, statistics } = await api.get(path);
      store.set({ run: { ...store.get().run, ...run }, segments, statistics });
    });

  function takeTensors({ tensors, groups }) {
    const tree = buildTree(tensors, groups);
    const first = usual === null;
    usual = openAtFirst(tree);
    const open = first && opened.length > 0 ? new Set(opened.filter((name) => name !== "-")) : first ? usual : store.get().open;
    store.set({ tensors, tree, open });
  }

  const loadTensors = () =>
    quietly(async () => {
      takeTensors(await api.get(`${path}/tensors`));
      onTree();
    });

  const loadMarks = () =>
    quietly(async () => {
      const { marks } = await api.get(`${path}/marks`);
      store.set({ marks });
    });

  const loadRules = () =>
    quietly(async () => {
      if (boot.role !== "owner") return;
      const { rules } = await api.get("/rules");
      store.set({ rules });
    });

  function everything() {
    for (const load of [loadTensors, loadRun, loadMarks, loadRules]) load();
  }

  const on = {
    status: (data) => store.set({ run: { ...store.get().run, ...data } }),
    run: (data) => {
      store.set({ run: { ...store.get().run, ...data } });
      loadRun();
    },
    schema: () => {
      loadRun();
      loadTensors().then(onColumns);
    },
    mark: (data) => {
      store.set({ marks: [...(store.get().marks ?? []), data] });
      if (data.kind === "corrected") onCorrected(data.step, data.data.to + 1);
    },
    rule: loadRules,
    run_deleted: () => location.assign(`${boot.base}/`),
  };

  const stops = [
    live.on("event", (event) => (event.run === id || event.run === null) && on[event.kind]?.(event.data)),
    live.on("stale", everything),
  ];
  live.follow(id);
  // What came with the page is not asked for again: what has happened since comes by the socket.
  for (const load of boot.layers ? [loadMarks, loadRules] : [loadTensors, loadMarks, loadRules]) load();
  return {
    usualOpen: () => usual,
    destroy: () => stops.forEach((stop) => stop()),
  };
}
