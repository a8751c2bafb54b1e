"""A wheel built from the tree, and empty environments to put it in."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The distribution, built once."""
    out = tmp_path_factory.mktemp("dist")
    command = [sys.executable, "-m", "build", "--wheel", "--no-isolation", "--outdir", str(out), str(ROOT)]
    subprocess.run(command, check=True, capture_output=True, text=True)
    return next(out.glob("*.whl"))


@pytest.fixture(scope="session")
def environment(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Callable[..., Path]:
    """Makes an empty environment with the wheel and some extras in it; gives its Python.

    This environment's pip fills it, and compiles nothing: most of what is installed is never imported.
    """

    def make(*also: str, extras: str = "", python: str = sys.executable) -> Path:
        folder = tmp_path_factory.mktemp("env")
        subprocess.run([python, "-m", "venv", "--without-pip", str(folder)], check=True, capture_output=True)
        inside = folder / "bin" / "python"
        pip = [sys.executable, "-m", "pip", "--python", str(inside), "install", "--quiet", "--no-compile"]
        done = subprocess.run([*pip, f"{wheel}{extras}", *also], capture_output=True, text=True, check=False)
        assert done.returncode == 0, done.stderr
        return inside

    return make


def run(python: Path, *arguments: str, cwd: Path) -> subprocess.CompletedProcess[str]:
    """Runs Python somewhere outside the tree, with nothing of ours in the environment."""
    return subprocess.run(
        [str(python), *arguments],
        capture_output=True,
        text=True,
        cwd=cwd,
        check=False,
        env={"PATH": "/usr/bin:/bin"},
    )
