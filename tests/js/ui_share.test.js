import assert from "node:assert/strict";
import { test } from "node:test";

import { installBrowser } from "./browser.js";

installBrowser();
const { momentOf, shareState, snapshotOf } = await import("../../static/js/ui/share.js");

test("a shared moment carries the theme, whatever else it carries", () => {
  assert.equal(momentOf("", "dark"), "?theme=dark");
  assert.equal(momentOf("?from=1&to=2", "light"), "?from=1&to=2&theme=light");
});

test("a link says how long it works", () => {
  const share = { revoked_at: null, expires_at: null };
  assert.equal(shareState(share, 0), "works until withdrawn");
  assert.equal(shareState({ ...share, expires_at: 100 }, 100), "expired");
  assert.match(shareState({ ...share, expires_at: 7200 }, 0), /^works for 2.h/);
  assert.equal(shareState({ ...share, revoked_at: 1 }, 0), "withdrawn");
});

test("a snapshot is of a run, or of a comparison over the axis that is shown", () => {
  assert.equal(snapshotOf([{ id: "a b" }], "?from=1"), "/runs/a%20b/snapshot");
  assert.equal(snapshotOf([{ id: "a" }, { id: "b" }], ""), "/compare/snapshot?run=a&run=b&x=step");
  assert.equal(snapshotOf([{ id: "a" }, { id: "b" }], "?x=time"), "/compare/snapshot?run=a&run=b&x=time");
});
