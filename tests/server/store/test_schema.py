"""What can't be opened is refused with a sentence that says what to do, and left as it was."""

from __future__ import annotations

import re
import sqlite3
import subprocess
import sys
from pathlib import Path

import pytest

from gradwatch_server.errors import StoreError
from gradwatch_server.store import Store
from gradwatch_server.store.schema import open_database
from gradwatch_server.store.sqlite_file import network_file_system


def refused(address: str) -> str:
    with pytest.raises(StoreError) as caught:
        Store.open(address)
    sentence = str(caught.value)
    assert sentence and "Traceback" not in sentence and "sqlalche.me" not in sentence
    return sentence


def test_a_second_server_is_refused(address: str) -> None:
    first = Store.open(address)
    try:
        assert "another gradwatch server" in refused(address)
    finally:
        first.close()
    Store.open(address).close()


def test_the_lock_of_a_killed_server_is_gone(tmp_path: Path) -> None:
    path = tmp_path / "gradwatch.db"
    code = (
        "import sys, time; from gradwatch_server.store import Store; s = Store.open(sys.argv[1]);"
        "print('open', flush=True); time.sleep(60)"
    )
    process = subprocess.Popen([sys.executable, "-c", code, path], stdout=subprocess.PIPE, text=True)
    assert process.stdout is not None and process.stdout.readline() == "open\n"
    assert f"process {process.pid}" in refused(str(path))
    process.kill()
    process.wait()
    process.stdout.close()
    Store.open(str(path)).close()


def test_a_newer_database_is_refused(tmp_path: Path) -> None:
    path = tmp_path / "gradwatch.db"
    Store.open(str(path)).close()
    with sqlite3.connect(path) as db:
        db.execute("UPDATE alembic_version SET version_num = '9999'")
    db.close()
    assert re.search("newer gradwatch .*9999.*Upgrade gradwatch", refused(str(path)))


def test_somebody_elses_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "other.db"
    with sqlite3.connect(path) as db:
        db.execute("CREATE TABLE runs (id)")
    db.close()
    before = path.read_bytes()
    assert "not one of gradwatch" in refused(str(path))
    assert path.read_bytes() == before


def test_a_file_that_is_no_database_is_left_alone(tmp_path: Path) -> None:
    path = tmp_path / "notes.txt"
    path.write_text("not a database at all, but a text of some length " * 50)
    assert "is not a gradwatch database" in refused(str(path))
    assert path.read_text().startswith("not a database")


def test_a_folder_that_cannot_be_written_is_told(tmp_path: Path) -> None:
    (tmp_path / "file").write_text("")
    assert "can't be made" in refused(str(tmp_path / "file" / "gradwatch.db"))
    assert "can't be opened" in refused(str(tmp_path))


def test_kinds_of_databases_that_are_not_supported() -> None:
    assert "mysql" in refused("mysql://user:secret@host/db")
    sentence = refused("postgresql://user:secret@/db?host=/nonexistent")
    assert "can't be reached" in sentence and "secret" not in sentence


def test_postgresql_without_its_driver_says_what_to_install(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "psycopg", None)
    assert "gradwatch[postgres]" in refused("postgresql://user@/db?host=/nonexistent")


@pytest.mark.parametrize("kind", ["nfs4", "lustre", "gpfs", "cifs", "smb3", "beegfs"])
def test_a_database_on_a_network_file_system_is_refused_with_the_way_out(tmp_path: Path, kind: str) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(f"/dev/sda / ext4 rw 0 0\nserver:/x {tmp_path / 'shared'} {kind} rw 0 0\n")
    with pytest.raises(StoreError) as caught:
        open_database(str(tmp_path / "shared" / "gradwatch.db"), mounts=mounts)
    sentence = str(caught.value)
    assert f"({kind})" in sentence and "--db" in sentence and "PostgreSQL" in sentence
    assert list((tmp_path / "shared").iterdir()) == []
    open_database(str(tmp_path / "gradwatch.db"), mounts=mounts).close()


def test_network_file_systems_are_found_by_the_longest_mount(tmp_path: Path) -> None:
    mounts = tmp_path / "mounts"
    mounts.write_text(
        "/dev/sda / ext4 rw 0 0\nserver:/home /home nfs4 rw 0 0\n/dev/sdb /home/local xfs rw 0 0\n"
        "scratch /mnt/my\\040disk lustre rw 0 0\nshort\n"
    )
    assert network_file_system(Path("/home/ada/runs"), mounts) == "nfs4"
    assert network_file_system(Path("/home/local/runs"), mounts) == ""
    assert network_file_system(Path("/mnt/my disk/x"), mounts) == "lustre"
    assert network_file_system(Path("/var/tmp"), mounts) == ""
    assert network_file_system(Path("/home"), tmp_path / "missing") == ""
