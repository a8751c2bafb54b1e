"""A lock file between processes, and where the file system knows no locks."""

from __future__ import annotations

import errno
import json
import os
import subprocess
import sys
from pathlib import Path

from gradwatch.lockfile import LockFile, holder


def without_locks(file: int) -> None:
    raise OSError(errno.ENOSYS, "Function not implemented")


def test_one_holder_at_a_time(tmp_path: Path) -> None:
    first, second = LockFile(tmp_path / "lock"), LockFile(tmp_path / "lock")
    assert first.acquire() and not second.acquire()
    first.release()
    assert second.acquire()
    second.release()
    assert holder(tmp_path / "lock")["pid"] == os.getpid()


def test_where_there_are_no_locks_a_living_holder_keeps_it_and_a_dead_one_does_not(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    process = subprocess.Popen([sys.executable, "-c", "input()"], stdin=subprocess.PIPE)
    here = {"pid": process.pid, "host": os.uname().nodename}
    path.write_bytes(b"\0" + json.dumps(here).encode())
    assert not LockFile(path, lock=without_locks).acquire()
    process.communicate(b"\n")
    lock = LockFile(path, lock=without_locks)
    assert lock.acquire()
    assert not LockFile(path, lock=without_locks).acquire()
    lock.release()


def test_where_there_are_no_locks_a_note_of_another_computer_does_not_bind(tmp_path: Path) -> None:
    path = tmp_path / "lock"
    path.write_bytes(b"\0" + json.dumps({"pid": 1, "host": "node-of-yesterday"}).encode())
    lock = LockFile(path, lock=without_locks)
    assert lock.acquire()
    lock.release()
