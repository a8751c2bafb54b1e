// Loads what isn't a number and keeps it current: the run itself, its tensors, statistics, marks and rules. Most of it came
// with the page, in the boot data.

import { buildTree, openAtFirst } from "../core/tree.js";
import { createTurns } from "../core/turns.js";
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
  /** Turns of asking for each thing: only the newest one's answer counts. */
  const turns = { run: createTurns(), tensors: createTurns(), marks: createTurns(), rules: createTurns() };
  /** What events have told since the run was asked about: newer than the answer. */
  let told = {};
  let marked = [];
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
      told = {};
      const counts = turns.run();
      const { run, segments, statistics } = await api.get(path);
      if (counts()) store.set({ run: { ...store.get().run, ...run, ...told }, segments, statistics });
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
      const counts = turns.tensors();
      const answer = await api.get(`${path}/tensors`);
      if (!counts()) return;
      takeTensors(answer);
      onTree();
    });

  const loadMarks = () =>
    quietly(async () => {
      marked = [];
      const counts = turns.marks();
      const { marks } = await api.get(`${path}/marks`);
      if (counts()) store.set({ marks: withMarks(marks, marked) });
    });

  const loadRules = () =>
    quietly(async () => {
      if (boot.role !== "owner") return;
      const counts = turns.rules();
      const { rules } = await api.get("/rules");
      if (counts()) store.set({ rules });
    });

  function everything() {
    for (const load of [loadTensors, loadRun, loadMarks, loadRules]) load();
  }

  function patch(data) {
    Object.assign(told, data);
    store.set({ run: { ...store.get().run, ...data } });
  }

  const on = {
    status: patch,
    run: (data) => {
      patch(data);
      loadRun();
    },
    schema: () => {
      loadRun();
      loadTensors().then(onColumns);
    },
    mark: (data) => {
      marked.push(data);
      store.set({ marks: withMarks(store.get().marks ?? [], [data]) });
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

/** `marks` and those of `more` that are not among them: an event may tell of a mark that an answer held already. */
export function withMarks(marks, more) {
  const known = new Set(marks.map(textOf));
  return [...marks, ...more.filter((mark) => !known.has(textOf(mark)))];
}

const textOf = ({ step, time, kind, data }) => JSON.stringify([step, time, kind, data]);
