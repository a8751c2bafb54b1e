import assert from "node:assert/strict";
import { test } from "node:test";

import { againstOthers, mostUnusual, suggested } from "../../static/js/core/unusual.js";

const tensor = (name, order = 0) => ({ key: `t:${name}`, name, kind: "tensor", order, children: [] });

test("what is no number comes first, then the distance from normal whatever its sign", () => {
  const values = { a: { last: 1, z: 1 }, b: { last: 2, z: -4 }, c: { last: NaN, z: NaN }, d: { last: 0, z: -Infinity }, e: null };
  const nodes = Object.keys(values).map((name) => tensor(name));
  const found = mostUnusual(nodes, (node) => values[node.name], 4);
  assert.deepEqual(found.map(({ node }) => node.name), ["c", "d", "b", "a"]);
  assert.deepEqual(found.map(({ z }) => z), [null, null, -4, 1]);
});

test("an open group is left out, a closed one stands for what it holds", () => {
  const child = tensor("g.a");
  const group = { key: "g:g", name: "g", kind: "group", children: [child] };
  const names = (nodes) => mostUnusual(nodes, () => ({ last: 1, z: 2 }), 5).map(({ node }) => node.name);
  assert.deepEqual(names([group, child]), ["g.a"]);
  assert.deepEqual(names([group]), ["g"]);
});

test("suggestions name each layer once", () => {
  const list = [tensor("in.weight", 0), tensor("mid.bias", 1), tensor("out.weight", 2)];
  const tree = { nodes: new Map(list.map((node) => [node.key, node])) };
  const found = suggested(tree, list[0], list[1]);
  assert.deepEqual(found.map(({ why, node }) => [why, node.name]), [["most unusual", "in.weight"], ["largest", "mid.bias"], ["last", "out.weight"]]);
  assert.deepEqual(suggested({ nodes: new Map() }, null, null), []);
});

test("rows of a run that was never normal are set against each other, those of an open group left to what it holds", () => {
  const children = [1, 2, 3, 4].map((i) => tensor(`g.${i}`));
  const group = { key: "g:g", name: "g", kind: "group", children };
  const last = { g: 1e12, "g.1": 64, "g.2": 64, "g.3": 64, "g.4": 1 };
  const valueOf = againstOthers([group, ...children], (node) => ({ last: last[node.name], z: 0 }));
  assert.equal(valueOf(children[0]).z, 0);
  assert.equal(valueOf(children[3]).z, -24);
  assert.equal(againstOthers(children, () => null)(children[0]), null);
});
