import assert from "node:assert/strict";
import { test } from "node:test";

import { installBrowser } from "./browser.js";

installBrowser();
const { whatText } = await import("../../static/js/ui/audit.js");

test("a change is told in words, an unknown one as it is", () => {
  assert.equal(whatText({ what: "PUT /api/v1/rules/{rule_id}" }), "changed a rule");
  assert.equal(whatText({ what: "POST /api/v1/alerts/{alert_id}/mute" }), "muted an alert");
  assert.equal(whatText({ what: "PURGE /api/v1/moons" }), "PURGE /api/v1/moons");
});
