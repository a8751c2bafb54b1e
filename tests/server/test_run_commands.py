"""``gradwatch runs`` lists what a server has."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.live_server import Running, Trainer, hello, schema, serving

from gradwatch.cli import main


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    with serving(tmp_path) as running:
        monkeypatch.setenv("GRADWATCH_SERVER", running.url)
        monkeypatch.setenv("GRADWATCH_TOKEN", running.services.token)
        yield running


def tell(server: Running, *runs: str) -> None:
    for run in runs:
        with Trainer(server, hello(run, name=f"name of {run}")) as trainer:
            trainer.send(schema())
            trainer.finish(1)


def test_one_run_a_line_the_newest_first(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["runs"]) == 0
    assert capsys.readouterr().out == "no runs\n"
    tell(server, "run-1", "run-2")
    assert main(["runs"]) == 0
    head, newest, oldest = capsys.readouterr().out.splitlines()
    assert head.split() == ["id", "project", "name", "state", "steps", "started"]
    assert newest.startswith("run-2 ") and oldest.startswith("run-1 ")
    assert "name of run-2" in newest and "finished" in newest
    assert newest.index("finished") == head.index("state")


def test_a_search_and_a_limit(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    tell(server, "run-1", "run-2", "run-3")
    assert main(["runs", "of run-1"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["id", "run-1"]
    assert main(["runs", "--limit", "2"]) == 0
    assert [line.split()[0] for line in capsys.readouterr().out.splitlines()] == ["id", "run-3", "run-2"]
    assert main(["runs", "--limit", "0"]) == 1
    assert "limit" in capsys.readouterr().err


def test_a_wrong_token_is_said(
    server: Running, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("GRADWATCH_TOKEN", "another token that is long enough")
    assert main(["runs"]) == 1
    assert "token" in capsys.readouterr().err
