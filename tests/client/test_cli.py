"""The ``gradwatch`` command, and what importing the package costs."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest
from tests.client.rig import Rig
from tests.client.serving import serving

from gradwatch.cli import NEEDS_SERVER, THEIRS, main
from gradwatch.testing import FakeServer


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path / "home"))
    for name in ("GRADWATCH_SERVER", "GRADWATCH_TOKEN"):
        monkeypatch.delenv(name, raising=False)
    return tmp_path / "home"


def test_help_lists_every_command(capsys: pytest.CaptureFixture[str]) -> None:
    assert main([]) == 0
    words = capsys.readouterr().out
    assert all(f"\n    {name} " in words for name in (*THEIRS, "demo", "sync", "open", "stop"))
    assert "a model, or the database" in words


def test_without_the_server_its_commands_are_one_sentence(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["serve", "--port", "1"], installed=list) == 2
    assert capsys.readouterr().err == f"gradwatch serve {NEEDS_SERVER}\n"


def test_open_and_stop_without_a_server(capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["stop"]) == main(["stop", "--port", "9"]) == 0
    assert capsys.readouterr().out == "no local server runs\nno local server runs on port 9\n"
    assert main(["open"]) == 1
    assert capsys.readouterr().err == "gradwatch: no local server runs; start one with: gradwatch serve\n"


def test_sync_delivers_a_folder(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    rig = Rig(home / "spool", offline=True)
    rig.step(0)
    rig.pump(1.0)
    rig.die()
    fake = FakeServer()
    with serving(fake) as port:
        assert main(["sync", "--server", f"127.0.0.1:{port}"]) == 0
        assert capsys.readouterr().out == "run-stream: delivered\n"
        assert main(["sync", str(home / "spool"), "--server", f"127.0.0.1:{port}"]) == 0
    assert list(fake.stream.series("grad_norm")) == [0]
    assert "nothing to deliver" in capsys.readouterr().out


def test_sync_says_what_is_wrong(home: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["sync"]) == 0
    assert capsys.readouterr().out == f"nothing to deliver in {home / 'spool'}\n"
    assert main(["sync", "--follow"]) == 1
    assert capsys.readouterr().err == f"gradwatch: {home / 'spool'} is not a folder\n"
    assert main(["sync", "/does/not/exist"]) == 1
    assert capsys.readouterr().err == "gradwatch: /does/not/exist is not a folder\n"
    assert main(["sync", str(home), "--server", "nonsense://"]) == 1
    assert "give an address like" in capsys.readouterr().err
    rig = Rig(home / "spool", offline=True)
    rig.step(0)
    rig.pump(1.0)
    rig.die()
    assert main(["sync"]) == 1
    assert "no server was reached" in capsys.readouterr().err
    assert list((home / "spool").glob("*/*.gws"))


def test_importing_gradwatch_loads_neither_torch_nor_the_network() -> None:
    script = (
        "import sys, gradwatch, gradwatch.protocol\n"
        "assert not {'torch', 'websockets', 'fastapi'} & set(sys.modules), set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", script], check=True, env={**os.environ, "PYTHONWARNINGS": "error"})


def test_public_names_are_found_lazily() -> None:
    script = "import gradwatch.watching, gradwatch\nassert callable(gradwatch.watch) and set(gradwatch.__all__) <= set(dir(gradwatch))"
    subprocess.run([sys.executable, "-c", script], check=True)
