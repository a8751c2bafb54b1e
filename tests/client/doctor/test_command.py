"""The table, the way to the server, and the exit status."""

from __future__ import annotations

from pathlib import Path

import pytest
from tests.server.live_server import Running, serving

from gradwatch.cli import main
from gradwatch.doctor.command import server_row
from gradwatch.doctor.settings import SETTINGS


@pytest.fixture
def environ(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> dict[str, str]:
    for name in ("GRADWATCH_SERVER", "GRADWATCH_TOKEN", "GRADWATCH_PUBLIC_URL"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("GRADWATCH_DIR", str(tmp_path))
    return {"GRADWATCH_DIR": str(tmp_path)}


@pytest.fixture
def server(tmp_path: Path) -> Running:
    with serving(tmp_path / "server") as running:
        yield running  # type: ignore[misc]


@pytest.mark.slow
def test_one_table_of_settings(environ: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["doctor", "--quick"]) == 0
    lines = capsys.readouterr().out.splitlines()
    assert lines[0].startswith("gradwatch ") and "torch " in lines[0]
    quick = [setting for setting in SETTINGS if not setting.compiled]
    rows = [line for line in lines if line.endswith("right")]
    assert [row.split("  ")[0] for row in rows if " cpu " in row] == [setting.title for setting in quick]
    assert lines[-1].startswith("server: none runs here")


def test_a_named_server_that_does_not_answer_is_wrong(environ: dict[str, str]) -> None:
    words, well = server_row({**environ, "GRADWATCH_SERVER": "http://127.0.0.1:9"})
    assert not well and "does not answer" in words


def test_a_server_that_knows_the_token(environ: dict[str, str], server: Running) -> None:
    at = {**environ, "GRADWATCH_SERVER": server.url}
    assert server_row({**at, "GRADWATCH_TOKEN": server.services.token}) == (
        f"{server.url} answers and knows the token",
        True,
    )
    words, well = server_row({**at, "GRADWATCH_TOKEN": "another"})
    assert not well and "does not know the token" in words
    words, well = server_row(at)
    assert well and "no token" in words


def test_the_database_is_checked_where_one_is_named(
    environ: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    with serving(tmp_path / "server"):
        pass
    assert main(["doctor", "--dir", str(tmp_path / "server")]) == 0
    assert "the database is sound" in capsys.readouterr().out
    assert main(["doctor", "--db", str(tmp_path / "nothing.db")]) == 1
