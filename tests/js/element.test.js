import assert from "node:assert/strict";
import { test } from "node:test";

import { setChildren } from "../../static/js/ui/element.js";

/** As much of an element as is asked for; notes what was put in and taken out. */
function parentOf(names) {
  const touched = [];
  const children = [];
  const node = (name) => ({ name, remove: () => touched.push(`-${children.splice(children.indexOf(made[name]), 1)[0].name}`) });
  const made = {};
  const nodeOf = (name) => (made[name] ??= node(name));
  children.push(...names.map(nodeOf));
  const insertBefore = (added, before) => {
    if (children.includes(added)) children.splice(children.indexOf(added), 1);
    children.splice(before === null ? children.length : children.indexOf(before), 0, added);
    touched.push(`+${added.name}`);
  };
  return { parent: { children, insertBefore }, touched, nodeOf };
}

test("only what changed is put in or taken out", () => {
  const { parent, touched, nodeOf } = parentOf(["title", "path", "curves", "foot"]);
  const become = (...names) => {
    touched.length = 0;
    setChildren(parent, names.map(nodeOf));
    assert.deepEqual(parent.children.map(({ name }) => name), names);
    return touched;
  };
  assert.deepEqual(become("title", "longer path", "curves", "foot"), ["-path", "+longer path"]);
  assert.deepEqual(become("title", "longer path", "curves", "foot"), []);
  assert.deepEqual(become("title", "curves", "evidence", "foot"), ["-longer path", "+evidence"]);
  assert.deepEqual(become("calm"), ["-title", "-curves", "-evidence", "-foot", "+calm"]);
});
