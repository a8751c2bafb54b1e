import assert from "node:assert/strict";
import { test } from "node:test";

import { buildTree, findNodes, openAtFirst, revealed, unfolded, visibleRows } from "../../static/js/core/tree.js";

function model(blocks) {
  const names = ["embed.weight"];
  for (let block = 0; block < blocks; block += 1) {
    for (const part of ["attn.qkv.weight", "attn.qkv.bias", "mlp.fc.weight"]) names.push(`model.blocks.${block}.${part}`);
  }
  names.push("head.weight");
  const tensors = names.map((name, index) => ({ index, name, depth: index }));
  const paths = new Map();
  for (const tensor of tensors) {
    const parts = tensor.name.split(".").slice(0, -1);
    for (let i = 0; i <= parts.length; i += 1) {
      const path = parts.slice(0, i).join(".");
      paths.set(path, [...(paths.get(path) ?? []), tensor.index]);
    }
  }
  const groups = [...paths].filter(([, below]) => below.length >= 2).map(([path, below], index) => ({ index, path, tensors: below }));
  for (const group of groups) {
    const above = groups.filter((other) => other !== group && (other.path === "" || group.path.startsWith(`${other.path}.`)));
    group.parent = above.sort((a, b) => b.path.length - a.path.length)[0]?.index ?? -1;
  }
  return { tensors, groups };
}

const labels = (rows) => rows.map((row) => row.label);

test("groups that only wrap another take no row; children stand in the order of the model", () => {
  const { tensors, groups } = model(3);
  const tree = buildTree(tensors, groups);
  assert.deepEqual(labels(visibleRows(tree, new Set())), ["embed.weight", "model.blocks", "head.weight"]);
  const open = new Set(["model.blocks", "model.blocks.1"]);
  assert.deepEqual(labels(visibleRows(tree, open)), [
    "embed.weight", "model.blocks", "0", "1", "attn.qkv", "mlp.fc.weight", "2", "head.weight",
  ]);
});

test("every tensor can be reached exactly once", () => {
  const { tensors, groups } = model(5);
  const tree = buildTree(tensors, groups);
  const all = new Set(groups.map((group) => group.path));
  const names = visibleRows(tree, all).filter((row) => row.kind === "tensor").map((row) => row.name);
  assert.deepEqual([...names].sort(), tensors.map((tensor) => tensor.name).sort());
});

test("the first look holds a readable number of rows", () => {
  for (const [blocks, least, most] of [[1, 3, 40], [12, 8, 40], [32, 12, 40], [96, 99, 99], [900, 3, 3]]) {
    const { tensors, groups } = model(blocks);
    const tree = buildTree(tensors, groups);
    const rows = visibleRows(tree, openAtFirst(tree)).length;
    assert.ok(rows >= least && rows <= most, `${blocks} blocks: ${rows} rows`);
  }
});

test("a found layer can be revealed", () => {
  const { tensors, groups } = model(12);
  const tree = buildTree(tensors, groups);
  const [best] = findNodes(tree, "7 QKV weight");
  assert.equal(best.name, "model.blocks.7.attn.qkv.weight");
  const rows = visibleRows(tree, revealed(best, new Set()));
  assert.ok(rows.includes(best));
  assert.deepEqual(findNodes(tree, "   "), []);
});

test("strange names stay what they are", () => {
  const names = ["<b>x</b>", "a/b.weight", "a/b.bias", "\u{1F600}", ""];
  const tensors = names.map((name, index) => ({ index, name, depth: index }));
  const groups = [
    { index: 0, path: "", parent: -1, tensors: [0, 1, 2, 3, 4] },
    { index: 1, path: "a/b", parent: 0, tensors: [1, 2] },
  ];
  const tree = buildTree(tensors, groups);
  assert.deepEqual(visibleRows(tree, new Set(["a/b"])).map((row) => row.name), ["<b>x</b>", "a/b", "a/b.weight", "a/b.bias", "\u{1F600}", ""]);
});

test("a group is opened with all that it holds, or one level of it where it holds very much", () => {
  const names = (blocks, name) => {
    const { tensors, groups } = model(blocks);
    const tree = buildTree(tensors, groups);
    return [...unfolded(tree.nodes.get(`g:${name}`), new Set())];
  };
  assert.ok(names(3, "model.blocks").some((name) => name.startsWith("model.blocks.1.")));
  assert.ok(!names(96, "model.blocks").some((name) => name.startsWith("model.blocks.1.")));
  assert.ok(names(96, "model.blocks.1").some((name) => name.startsWith("model.blocks.1.")));
});
