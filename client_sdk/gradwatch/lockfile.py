"""A lock that the operating system drops when its process dies, and that a forked child does not inherit."""

from __future__ import annotations

import json
import os
import socket
import sys
from pathlib import Path
from typing import Any

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["LockFile", "holder"]

_held: set[str] = set()


class LockFile:
    """Exclusive between processes and within this one. The file says who holds it (pid and host).

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._file = -1

    def acquire(self) -> bool:
        """Takes the lock if it is free; never waits."""
        name = os.path.realpath(self.path)
        if name in _held:
            return False
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        if not _try_lock(file):
            os.close(file)
            return False
        _held.add(name)
        self._file = file
        note = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        os.lseek(file, 1, os.SEEK_SET)
        os.ftruncate(file, 1)
        os.write(file, note)
        return True

    def release(self) -> None:
        """Gives it up; harmless when it is not held."""
        if self._file >= 0:
            _held.discard(os.path.realpath(self.path))
            os.close(self._file)
            self._file = -1


def holder(path: Path) -> dict[str, Any]:
    """Who took the lock last: ``pid`` and ``host``; empty if nobody says. Only for a lock this process does not hold."""
    try:
        note = json.loads(path.read_bytes()[1:] or b"{}")
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def _try_lock(file: int) -> bool:
    """A lock on the first byte: ``lockf`` belongs to the process, so DataLoader workers don't keep it alive."""
    try:
        if sys.platform == "win32":
            msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
        else:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)
    except OSError:
        return False
    return True
