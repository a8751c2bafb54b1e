"""Static files: when pages get the bundle, when the sources, and what may be kept for ever."""

from __future__ import annotations

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import brotli
import pytest
from tests.packaging.conftest import ROOT

from gradwatch_server.assets import Assets, find

SOURCES = {
    "js/pages/one.js": 'import { a } from "../core/a.js";\nexport { b } from "../core/b.js";\na();\n',
    "js/core/a.js": 'import { b } from "./b.js";\n' + "export const a = () => b; // why\n" * 60,
    "js/core/b.js": "export const b = 1;\n",
    "css/app.css": "body { color: red; }\n",
    "img/icon.svg": "<svg/>",
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    for name, text in SOURCES.items():
        write(tmp_path / "static" / name, text)
    return tmp_path / "static"


def write(path: Path, text: str) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(text)


def bundle(folder: Path) -> None:
    """What ``bundle.js`` leaves, as far as the server is concerned."""
    write(folder / "dist/js/pages/one.js", "1;")
    write(folder / "dist/css/app.css", "body{color:red}")
    assets = Assets(folder)
    write(folder / "dist/sources.json", json.dumps({"digest": assets.digest(assets.look().stamps)}))


def test_without_a_bundle_pages_get_the_sources_and_the_names_of_all_modules(folder: Path) -> None:
    assets = Assets(folder)
    look = assets.look()
    assert not look.bundled
    assert look.place("js/pages/one.js") == "js/pages/one.js"
    assert sorted(assets.modules("js/pages/one.js")) == ["js/core/a.js", "js/core/b.js"]


def test_the_names_are_of_all_modules_that_a_page_imports_in_the_end(tmp_path: Path) -> None:
    static = tmp_path / "static"
    shutil.copytree(find("static"), static, ignore=shutil.ignore_patterns("dist"))
    needed, pending = set(), ["js/pages/run.js"]
    while pending:
        name = pending.pop()
        needed.add(name)
        for target in re.findall(r'from "(\.[^"]+)"', (static / name).read_text()):
            found = (static / name).parent.joinpath(target).resolve().relative_to(static.resolve())
            pending += [found.as_posix()] if found.as_posix() not in needed else []
    assets = Assets(static)
    assets.look()
    assert {"js/pages/run.js", *assets.modules("js/pages/run.js")} == needed


def test_a_bundle_of_the_present_sources_takes_their_place(folder: Path) -> None:
    bundle(folder)
    assets = Assets(folder)
    look = assets.look()
    assert look.bundled
    assert look.place("js/pages/one.js") == "dist/js/pages/one.js"
    assert look.place("css/app.css") == "dist/css/app.css"
    assert look.place("img/icon.svg") == "img/icon.svg"
    assert assets.modules("js/pages/one.js") == []


@pytest.mark.parametrize(
    ("name", "text"), [("js/core/b.js", "export const b = 2;\n"), ("js/core/new.js", "1;\n")]
)
def test_an_edit_is_seen_on_reload_bundled_or_not(folder: Path, name: str, text: str) -> None:
    bundle(folder)
    assets = Assets(folder)
    before = assets.look()
    write(folder / name, text)
    os.utime(folder / name, ns=(1, 1))
    after = assets.look()
    assert after.version != before.version
    assert not after.bundled
    assert after.place("js/pages/one.js") == "js/pages/one.js"
    edited = assets.get(name)
    assert edited is not None and edited.body.decode() == text


def test_a_deleted_source_ends_the_bundle(folder: Path) -> None:
    bundle(folder)
    assets = Assets(folder)
    assert assets.look().bundled
    (folder / "js/core/b.js").unlink()
    assert not assets.look().bundled


def test_only_what_a_page_of_this_version_links_to_is_kept_for_ever(folder: Path) -> None:
    assets = Assets(folder)
    version = assets.look().version
    assert assets.lasts(version, "css/app.css")
    assert not assets.lasts("0000000000", "css/app.css")
    write(folder / "css/app.css", "body { color: blue; }\n")
    assert not assets.lasts(version, "css/app.css")
    assert assets.lasts(assets.look().version, "css/app.css")


def test_a_restarted_server_knows_the_version_of_an_open_page(folder: Path) -> None:
    assert Assets(folder).lasts(Assets(folder).look().version, "css/app.css")


def test_compressed_forms_hold_the_same_bytes(folder: Path) -> None:
    found = Assets(folder).get("js/core/a.js")
    assert found is not None
    packed, encoding = found.encoded("gzip, br;q=1.0")
    assert encoding == "br"
    assert brotli.decompress(packed) == found.body
    assert found.encoded("identity") == (found.body, "")


@pytest.mark.slow
def test_the_bundler_makes_what_the_server_takes(tmp_path: Path) -> None:
    """In a copy of the tree, with the digest that both sides must agree on."""
    for name in ("bundle.js", "package.json"):
        shutil.copy(ROOT / name, tmp_path)
    shutil.copytree(find("static"), tmp_path / "static", ignore=shutil.ignore_patterns("dist"))
    modules = ROOT / "node_modules"
    assert (modules / "esbuild").is_dir(), "esbuild is not installed: npm ci"
    (tmp_path / "node_modules").symlink_to(modules)
    done = subprocess.run(["node", "bundle.js"], cwd=tmp_path, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stderr) == (0, "")
    assets = Assets(tmp_path / "static")
    look = assets.look()
    assert look.bundled
    for page in (tmp_path / "static/js/pages").glob("*.js"):
        built = assets.get(look.place(f"js/pages/{page.name}"))
        assert built is not None
        assert not re.search(rb"(from|import)\s*\(?\s*[\"'`]\.", built.body), page.name
