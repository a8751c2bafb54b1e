// Makes static/dist of static/js and static/css: each page's scripts in one minified file, and its style sheets as small as
// they get. The server hands it out while it is that of the present sources, by the digest in sources.json; an edit that isn't
// bundled yet is served as it stands. Run by `make bundle`, and with it by everything that tests, measures or packs what
// people get.

import { createHash } from "node:crypto";
import { readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { build } from "esbuild";

const FROM = "static";
const TO = "static/dist";

const names = ["css", "js"]
  .flatMap((folder) => readdirSync(join(FROM, folder), { recursive: true, withFileTypes: true }))
  .filter((entry) => entry.isFile() && !entry.name.startsWith("."))
  .map((entry) => join(entry.parentPath ?? entry.path, entry.name).slice(FROM.length + 1))
  .sort();

/** What assets.py makes of the same files. */
function digest() {
  const hash = createHash("sha256");
  for (const name of names) hash.update(`${name}\0`).update(readFileSync(join(FROM, name))).update("\0");
  return hash.digest("hex");
}

const entries = names.filter((name) => name === "js/early.js" || name.startsWith("js/pages/") || name.startsWith("css/"));
rmSync(TO, { recursive: true, force: true });
await build({
  entryPoints: entries.map((name) => join(FROM, name)),
  outbase: FROM,
  outdir: TO,
  bundle: true,
  minify: true,
  format: "esm",
  target: "es2022",
  charset: "utf8",
  logLevel: "warning",
});
writeFileSync(join(TO, "sources.json"), JSON.stringify({ digest: digest() }));
