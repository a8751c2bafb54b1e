// The module tree beside the heat map: groups that open and close, tensors below them. Pure.

/**
 * @typedef {{key: string, kind: "group"|"tensor", index: number, name: string, label: string, parent: Node|null,
 *   children: Node[], depth: number, size: number, order: number}} Node
 *   `name` is the module path or tensor name, `label` what is left of it below its parent, `size` counts tensors
 */

function relative(name, path) {
  if (path === "" || !name.startsWith(path)) return name;
  const rest = name.slice(path.length).replace(/^[./]/, "");
  return rest === "" ? name : rest;
}

/**
 * Builds the tree from the run's tensors and groups (TensorInfo, GroupInfo). A group whose only child is a group of the same
 * tensors is passed over, so that `model` > `model.layers` takes one row.
 *
 * @returns {{root: Node, nodes: Map<string, Node>}} nodes by key: "g:path" or "t:name"
 */
export function buildTree(tensors, groups) {
  const root = node("group", -1, "", tensors.length);
  const nodes = new Map();
  const byIndex = new Map();
  const deepest = new Map();
  const ordered = [...groups].sort((a, b) => b.tensors.length - a.tensors.length || a.path.length - b.path.length);
  for (const group of ordered) {
    if (group.path === "") {
      root.index = group.index;
      byIndex.set(group.index, root);
      continue;
    }
    const made = node("group", group.index, group.path, group.tensors.length);
    byIndex.set(group.index, made);
    made.parent = group.parent;
    for (const tensor of group.tensors) deepest.set(tensor, made);
  }
  const order = new Map(tensors.map((tensor) => [tensor.index, tensor.depth ?? tensor.index]));
  for (const group of ordered) {
    const made = byIndex.get(group.index);
    made.order = Math.min(...group.tensors.map((tensor) => order.get(tensor) ?? Infinity));
    if (made !== root) attach(made, byIndex.get(made.parent) ?? root);
  }
  for (const tensor of tensors) {
    const leaf = node("tensor", tensor.index, tensor.name, 1);
    leaf.order = order.get(tensor.index);
    attach(leaf, deepest.get(tensor.index) ?? root);
  }
  finish(root, 0, nodes);
  return { root, nodes };
}

function node(kind, index, name, size) {
  const key = `${kind === "group" ? "g" : "t"}:${name}`;
  return { key, kind, index, name, label: name, parent: null, children: [], depth: -1, size, order: 0 };
}

function attach(child, parent) {
  child.parent = parent;
  parent.children.push(child);
}

/** Sorts children by depth in the model, skips groups that only wrap another, sets labels and depths. */
function finish(parent, depth, nodes) {
  parent.children = parent.children.map((child) => {
    let inner = child;
    while (inner.children.length === 1 && inner.children[0].kind === "group") [inner] = inner.children;
    inner.parent = parent;
    return inner;
  });
  parent.children.sort((a, b) => a.order - b.order || a.index - b.index);
  for (const child of parent.children) {
    child.depth = depth;
    child.label = relative(child.name, parent.name);
    nodes.set(child.key, child);
    finish(child, depth + 1, nodes);
  }
}

/** The rows to draw, top to bottom: every child of the root, and below each open group its children. */
export function visibleRows(tree, open) {
  const rows = [];
  const walk = (parent) => {
    for (const child of parent.children) {
      rows.push(child);
      if (child.kind === "group" && open.has(child.name)) walk(child);
    }
  };
  walk(tree.root);
  return rows;
}

const FEW_ROWS = 5;
const MOST_ROWS = 600;

/**
 * Which groups stand open at first: level by level as long as at most `most` rows result, stopping as soon as there are
 * `enough`. Where hardly a row would be left, the next level is opened however many it has (up to MOST_ROWS): a deep model's
 * blocks are worth more as thin lines than as one thick one. The result depends on the model only, not on the data.
 *
 * @returns {Set<string>} module paths
 */
export function openAtFirst(tree, enough = 8, most = 40) {
  const open = new Set();
  let level = tree.root.children.filter((child) => child.kind === "group");
  let rows = tree.root.children.length;
  while (rows < enough && level.length > 0) {
    const added = level.reduce((sum, group) => sum + group.children.length, 0);
    if (rows + added > (rows < FEW_ROWS ? MOST_ROWS : most)) break;
    for (const group of level) open.add(group.name);
    rows += added;
    level = level.flatMap((group) => group.children.filter((child) => child.kind === "group"));
  }
  return open;
}

/** Opens every group above a node, so that its row is visible. Returns a new set. */
export function revealed(target, open) {
  const wider = new Set(open);
  for (let up = target.parent; up !== null; up = up.parent) if (up.name !== "") wider.add(up.name);
  return wider;
}

/** A tree so wide that opening a group whole would hide everything else. */
const OPENED_WHOLE = 60;

/** Opens a group so that a layer in it can be told: with all that it holds, or one level of it where it holds very much. */
export function unfolded(group, open) {
  const wider = revealed(group, open);
  const walk = (node) => {
    if (node.kind !== "group") return;
    wider.add(node.name);
    if (group.size <= OPENED_WHOLE) node.children.forEach(walk);
  };
  walk(group);
  return wider;
}

/** Nodes whose name holds every word of `text`, best first (a match near the end of a name counts more), at most `limit`. */
export function findNodes(tree, text, limit = 12) {
  const words = text.toLowerCase().split(/\s+/).filter(Boolean);
  if (words.length === 0) return [];
  const found = [];
  for (const item of tree.nodes.values()) {
    const name = item.name.toLowerCase();
    if (!words.every((word) => name.includes(word))) continue;
    found.push({ item, rank: name.length - name.lastIndexOf(words.at(-1)) });
  }
  found.sort((a, b) => a.rank - b.rank || a.item.name.length - b.item.name.length || a.item.order - b.item.order);
  return found.slice(0, limit).map(({ item }) => item);
}
