import assert from "node:assert/strict";
import { readdirSync, readFileSync } from "node:fs";
import { test } from "node:test";

import { CodecError, decodeView, SNAPSHOT } from "../../static/js/core/codec.js";
import { numberOf } from "../../static/js/core/format.js";

const GOLDEN = new URL("../contract/", import.meta.url);
const NAMES = readdirSync(GOLDEN).filter((name) => /^view_.*\.bin$/.test(name)).map((name) => name.slice(0, -4));

function bytesOf(name) {
  const file = readFileSync(new URL(`${name}.bin`, GOLDEN));
  return file.buffer.slice(file.byteOffset, file.byteOffset + file.byteLength);
}

/** Equal as numbers are on the wire: NaN equals NaN, and single precision is what was sent. */
function same(got, expected, what) {
  assert.ok(Object.is(got, Math.fround(numberOf(expected))), `${what}: ${got} is not ${expected}`);
}

test("there are golden files to read", () => assert.ok(NAMES.length >= 4));

for (const name of NAMES) {
  test(`reads ${name} as the server meant it`, () => {
    const expected = JSON.parse(readFileSync(new URL(`${name}.expect.json`, GOLDEN), "utf8"));
    const view = decodeView(bytesOf(name));
    assert.equal(view.kind, expected.kind);
    assert.equal(view.id, expected.subscription);
    assert.equal(view.segment, expected.segment);
    assert.equal(view.width, expected.width);
    assert.equal(view.firstBucket, expected.first_bucket);
    assert.equal(view.rows, expected.rows);
    assert.equal(view.n, expected.n);
    assert.equal(view.lastStep, expected.last_step);
    assert.equal(view.lastTime, expected.last_time);
    for (let row = 0; row < view.rows; row += 1) {
      for (let i = 0; i < view.n; i += 1) {
        const cell = row * view.n + i;
        const flags = expected.flags[row][i];
        assert.equal(view.flags[cell], flags);
        same(view.last[cell], expected.last[row][i], `last ${row},${i}`);
        // With one plane an extreme of a non-finite value isn't sent: the flags say so.
        if (view.width === 1 && flags & 6) continue;
        same(view.low[cell], expected.low[row][i], `low ${row},${i}`);
        same(view.high[cell], expected.high[row][i], `high ${row},${i}`);
      }
    }
  });
}

test("a message cut anywhere is refused with a sentence, never half read", () => {
  const whole = bytesOf("view_buckets");
  const cells = 4;
  const needed = 56 + 3 * 4 * cells + cells;
  for (let length = 0; length < needed; length += 1) {
    assert.throws(() => decodeView(whole.slice(0, length)), CodecError);
  }
});

test("other versions, kinds and plane counts are refused", () => {
  for (const [at, value] of [[0, 88], [4, 2], [6, 7], [36, 2]]) {
    const bytes = new Uint8Array(bytesOf("view_steps"));
    bytes[at] = value;
    assert.throws(() => decodeView(bytes.buffer), CodecError);
  }
});

test("reading copies nothing", () => {
  const bytes = bytesOf("view_steps");
  const view = decodeView(bytes);
  assert.equal(view.kind, SNAPSHOT);
  assert.equal(view.last.buffer, bytes);
});
