import assert from "node:assert/strict";
import { test } from "node:test";

import { fakeContext, installBrowser } from "./browser.js";

installBrowser();
const { paintPins } = await import("../../static/js/ui/chart_handle.js");

test("a pin stands at each step of the stretch where a rule would have fired", () => {
  const { context, pixels } = fakeContext(110, 20);
  paintPins(context, { left: 10, right: 110, top: 2, bottom: 18 }, { from: 100, to: 200 }, [99, 100, 150, 200]);
  const pinned = pixels[10].flatMap((colour, x) => (colour === "--accent" ? [x] : []));
  assert.deepEqual(pinned, [11, 61]);
  assert.equal(pixels[1][11], "");
  assert.equal(pixels[18][11], "");
});
