"""The commands on the database, as a person calls them."""

from __future__ import annotations

import importlib.util
from pathlib import Path

import numpy as np
import pytest
from tests.server.store.helpers import RUN, WAIT, batch, declared, opened

from gradwatch.cli import main
from gradwatch_server.commands import COMMANDS
from gradwatch_server.store import Store
from gradwatch_server.store.retention import Limits


def gradwatch(*words: str) -> int:
    return main(words, installed=lambda: list(COMMANDS))


@pytest.fixture
def database(tmp_path: Path) -> str:
    """A database with one run, closed."""
    path = str(tmp_path / "gradwatch.db")
    store = Store.open(path, clock=lambda: 1000.0)
    sent = np.random.default_rng(0).random((700, 4), dtype=np.float32)
    store.append(opened(store).stream, [declared(), batch(1, 0, sent)]).done.result(WAIT)
    store.close()
    return path


def test_a_run_goes_out_and_comes_in_elsewhere(
    database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = str(tmp_path / "other.db")
    assert gradwatch("export", "--all", "--db", database, "--out", str(tmp_path / "all.gwx")) == 0
    assert gradwatch("import", str(tmp_path / "all.gwx"), "--db", other) == 0
    assert capsys.readouterr().out.splitlines()[-1] == RUN
    assert gradwatch("import", str(tmp_path / "all.gwx"), "--db", other) == 1
    assert "is here already" in capsys.readouterr().err
    assert gradwatch("doctor", "--db", other) == 0
    assert "sound" in capsys.readouterr().out
    store = Store.open(other)
    assert len(store.values(RUN, "grad_norm").steps) == 700
    store.close()


def test_tables(database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gradwatch("export", RUN, "--format", "csv", "--db", database, "--out", str(tmp_path / "csv")) == 0
    assert "3 files" in capsys.readouterr().out
    assert len((tmp_path / "csv" / "tensor-grad_norm.csv").read_text().splitlines()) == 701
    status = gradwatch(
        "export", RUN, "--format", "parquet", "--db", database, "--out", str(tmp_path / "parquet")
    )
    if importlib.util.find_spec("pyarrow") is None:
        assert status == 1 and "pip install pyarrow" in capsys.readouterr().err
    else:
        table = importlib.import_module("pyarrow.parquet").read_table(
            tmp_path / "parquet" / "tensor-grad_norm.parquet"
        )
        assert table.num_rows == 700 and table.column_names[:2] == ["step", "time"]


def test_a_copy(database: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    assert gradwatch("backup", str(tmp_path / "copy.db"), "--db", database) == 0
    assert gradwatch("doctor", "--db", str(tmp_path / "copy.db")) == 0
    assert gradwatch("backup", str(tmp_path / "copy.db"), "--db", database) == 1
    assert "exists already" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "sentence"),
    [
        (("export",), "say which run"),
        (("export", "--all", "--format", "csv"), "--all goes with"),
        (("export", "nosuch"), "there is no run 'nosuch'"),
        (("import", "no/such.gwx"), "there is no file no/such.gwx"),
    ],
)
def test_what_cannot_be_done_is_a_sentence(
    database: str, capsys: pytest.CaptureFixture[str], words: tuple[str, ...], sentence: str
) -> None:
    assert gradwatch(*words, "--db", database) == 1
    assert sentence in capsys.readouterr().err


def test_an_export_of_a_thinned_run_says_what_is_missing_and_comes_in_again(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path, other = str(tmp_path / "gradwatch.db"), str(tmp_path / "other.db")
    sent = np.random.default_rng(0).random((3000, 4), dtype=np.float32)
    store = Store.open(path, clock=lambda: 1000.0, background=False, limits=Limits(most_bytes=1))
    store.append(opened(store).stream, [declared(), batch(1, 0, sent)]).done.result(WAIT)
    store.compact()
    store.close()
    assert gradwatch("export", RUN, "--format", "gwx", "--db", path, "--out", str(tmp_path / "one.gwx")) == 0
    assert f"of run {RUN} exact values of steps before 2,048 were thinned" in capsys.readouterr().out
    assert gradwatch("import", str(tmp_path / "one.gwx"), "--db", other) == 0
    copy = Store.open(other)
    found = copy.values(RUN, "grad_norm")
    np.testing.assert_array_equal(found.steps, np.arange(2048.0, 3000.0))
    np.testing.assert_array_equal(found.values, sent[2048:].astype(np.float64))
    copy.close()
