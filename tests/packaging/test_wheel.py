"""The wheel in empty environments: it serves the page, and each half installs without the other's dependencies."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import urllib.error
import urllib.request
import zipfile
from collections.abc import Callable
from pathlib import Path

import pytest

from gradwatch_server.assets import Assets

from .conftest import ROOT, run

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

Make = Callable[..., Path]

REPORT = """
import importlib.util, sys
import gradwatch, gradwatch.protocol, gradwatch.health
print({name: importlib.util.find_spec(name) is not None for name in ("fastapi", "sqlalchemy", "torch", "plotly")})
print(sorted({"torch", "websockets"} & set(sys.modules)))
"""


def test_the_client_alone_installs_without_the_servers_packages(environment: Make, tmp_path: Path) -> None:
    python = environment()
    report = run(python, "-c", REPORT, cwd=tmp_path)
    assert report.returncode == 0, report.stderr
    assert report.stdout.splitlines()[0].count("True") == 0
    served = run(python, "-m", "gradwatch", "serve", cwd=tmp_path)
    assert served.returncode != 0
    assert "gradwatch[server]" in served.stderr
    assert "Traceback" not in served.stderr


def test_the_wheel_serves_the_page_without_torch(environment: Make, tmp_path: Path) -> None:
    python = environment(extras="[server]")
    assert run(python, "-c", "import torch", cwd=tmp_path).returncode != 0
    command = [str(python), "-m", "gradwatch", "serve", "--port", "0", "--dir", str(tmp_path / "data")]
    environ = {"PATH": "/usr/bin:/bin", "PYTHONUNBUFFERED": "1", "HOME": str(tmp_path)}
    with subprocess.Popen(
        command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True, cwd=tmp_path, env=environ
    ) as server:
        try:
            address = address_of(server)
            page = fetch(f"{address}/")
            assert "<title>" in page
            scripts = re.findall(r'<script[^>]*src="([^"]+)"', page)
            assert scripts
            for script in scripts:
                assert len(fetch(address + script)) > 20
            assert '"status":"ok"' in fetch(f"{address}/healthz").replace(" ", "")
        finally:
            server.send_signal(signal.SIGTERM)
            assert server.wait(60) == 0


def address_of(server: subprocess.Popen[str]) -> str:
    """The address that the server prints when it listens."""
    assert server.stdout is not None
    lines = []
    for line in server.stdout:
        lines.append(line)
        found = re.search(r"http://127\.0\.0\.1:\d+", line)
        if found:
            return found[0]
    raise AssertionError("the server ended: " + "".join(lines))


def fetch(url: str) -> str:
    """The body, of an error page too (the page asks an unknown visitor to sign in with status 401)."""
    try:
        with urllib.request.urlopen(url, timeout=30) as answer:
            return str(answer.read().decode())
    except urllib.error.HTTPError as error:
        return error.read().decode()


def test_the_wheel_holds_no_tests_and_all_assets(wheel: Path) -> None:
    names = set(zipfile.ZipFile(wheel).namelist())
    assert not [name for name in names if name.startswith("tests/")]
    for folder in ("templates", "static", "server/docs"):
        for path in (ROOT / folder).rglob("*"):
            if path.is_file() and not path.name.startswith("."):
                inside = path.relative_to(ROOT).as_posix().removeprefix("server/")
                assert f"gradwatch_server/{inside}" in names


def test_the_wheel_serves_the_bundle_of_its_own_scripts(wheel: Path, tmp_path: Path) -> None:
    zipfile.ZipFile(wheel).extractall(tmp_path)
    look = Assets(tmp_path / "gradwatch_server" / "static").look()
    assert look.bundled, "the scripts are not bundled, or not as they are now: make bundle"
    assert look.place("js/pages/run.js") in look.stamps


def other_pythons() -> list[str]:
    """Interpreters at hand, one a minor version from 3.10 on, but for the running one."""
    found: dict[str, str] = {}
    versions = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv")) / "versions"
    for minor in range(10, 16):
        if minor == sys.version_info.minor:
            continue
        managed = sorted(versions.glob(f"3.{minor}.*/bin/python3"))
        candidate = str(managed[-1]) if managed else shutil.which(f"python3.{minor}")
        works = candidate and subprocess.run(
            [candidate, "-m", "venv", "--help"], capture_output=True, check=False
        )
        if candidate and works and works.returncode == 0:
            found[f"3.{minor}"] = candidate
    return list(found.values())


def tried_pythons() -> list[str]:
    """The oldest and the newest of them; all with ``GRADWATCH_LONG``."""
    found = other_pythons() or [sys.executable]
    return found if os.environ.get("GRADWATCH_LONG") else found[:1] + found[1:][-1:]


@pytest.mark.parametrize("python", tried_pythons())
def test_the_torch_free_parts_work_on_the_other_pythons_at_hand(
    python: str, environment: Make, tmp_path: Path
) -> None:
    inside = environment("pytest", "pytest-timeout", "hypothesis", "httpx", extras="[server]", python=python)
    tests = [str(ROOT / "tests" / folder) for folder in ("client/protocol", "client/health", "server/alerts")]
    done = run(
        inside,
        "-m",
        "pytest",
        "-q",
        "-x",
        "-p",
        "no:cacheprovider",
        "--rootdir",
        str(ROOT),
        *tests,
        cwd=tmp_path,
    )
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-1000:]
