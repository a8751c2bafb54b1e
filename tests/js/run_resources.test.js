// The rows of the panel of resources.

import assert from "node:assert/strict";
import test from "node:test";

import { rowsOf } from "../../static/js/ui/run_resources.js";

const spaced = (text) => text.replaceAll("\u00a0", " ");

test("known numbers come in their order with their units, devices last, others under their name", () => {
  const rows = rowsOf(["loss", "system/gpu0/power", "system/rss", "system/gpu0/use", "system/cpu", "system/odd", "system/data_wait"]);
  const values = { "system/cpu": 1.5, "system/data_wait": 0.034, "system/rss": 2.5e9, "system/odd": 7, "system/gpu0/use": 0.97, "system/gpu0/power": 310 };
  assert.deepEqual(
    rows.filter(({ key }) => key !== "odd").map(({ name, label, text }) => [spaced(label), spaced(text(values[name]))]),
    [
      ["processor", "150 %"],
      ["waiting for data", "3.4 %"],
      ["memory", spaced(rows.find(({ key }) => key === "rss").text(2.5e9))],
      ["GPU 0 use", "97 %"],
      ["GPU 0 power", "310 W"],
    ],
  );
  assert.match(rows.find(({ key }) => key === "rss").text(2.5e9), /GB/);
  assert.equal(rows.find(({ key }) => key === "odd").label, "odd");
  assert.deepEqual(rowsOf(["loss", "lr"]), []);
});
