"""``gradwatch share`` prints a link that opens."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import pytest
from tests.server.live_server import Running, Trainer, hello, schema, serving

from gradwatch.cli import main


@pytest.fixture
def server(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Running]:
    with serving(tmp_path) as running:
        for run in ("run-1", "run-2"):
            with Trainer(running, hello(run, name=f"name of {run}")) as trainer:
                trainer.send(schema())
                trainer.finish(1)
        monkeypatch.setenv("GRADWATCH_SERVER", running.url)
        monkeypatch.setenv("GRADWATCH_TOKEN", running.services.token)
        yield running


def test_a_run_by_its_id_and_a_comparison_by_names(
    server: Running, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["share", "run-1", "--label", "review", "--days", "0"]) == 0
    printed = capsys.readouterr()
    assert re.fullmatch(rf"{server.url}/s/[\w-]{{32}}\n", printed.out)
    assert "Only this computer can open this link." in printed.err and "ssh -N -L" in printed.err
    with server.client() as anybody:
        assert anybody.get(printed.out.strip()).status_code == 200
    assert main(["share", "name of run-2", "run-1"]) == 0
    with server.owner() as api:
        links = api.get("/api/v1/shares").json()["shares"]
    assert {(link["run_id"], *link["others"]) for link in links} == {("run-1",), ("run-2", "run-1")}
    assert {link["label"]: link["expires_at"] is None for link in links} == {"review": True, "": False}


def test_a_password_is_asked_for(
    server: Running, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("getpass.getpass", lambda prompt: "sesame")
    assert main(["share", "run-1", "--password"]) == 0
    link = capsys.readouterr().out.strip()
    with server.client() as anybody:
        assert anybody.get(link).status_code == 401
        body = {"token": link.rpartition("/")[2], "password": "sesame"}
        assert anybody.post("/api/v1/unlock", json=body).status_code == 204


def test_what_cannot_be_shared_is_said(server: Running, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["share", "no such run"]) == 1
    assert "there is no run 'no such run'" in capsys.readouterr().err
    assert main(["share", "run-1", "--days", "-3"]) == 1
    assert capsys.readouterr().err
