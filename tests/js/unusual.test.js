import assert from "node:assert/strict";
import { test } from "node:test";

import { mostUnusual, suggested } from "../../static/js/core/unusual.js";

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
