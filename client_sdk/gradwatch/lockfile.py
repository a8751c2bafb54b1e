"""A lock that the operating system drops when its process dies, and that a forked child does not inherit.

Some file systems of clusters have no locks (Lustre without ``flock``, some FUSE mounts). There the note in the file
decides: it is held while its process lives on this computer.
"""

from __future__ import annotations

import errno
import json
import os
import socket
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, Final

if sys.platform == "win32":
    import msvcrt
else:
    import fcntl

__all__ = ["LockFile", "alive", "holder", "system_lock"]

_held: set[str] = set()

NO_LOCKS: Final = frozenset(
    getattr(errno, name) for name in ("ENOSYS", "ENOTSUP", "EOPNOTSUPP", "ENOLCK") if hasattr(errno, name)
)
"""What a file system says that has no locks."""


def system_lock(file: int) -> None:
    """A lock on the first byte: ``lockf`` belongs to the process, so DataLoader workers don't keep it alive.

    Raises:
        OSError: another process holds it, or there are no locks here (:data:`NO_LOCKS`).
    """
    if sys.platform == "win32":
        msvcrt.locking(file, msvcrt.LK_NBLCK, 1)
    else:
        fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1)


class LockFile:
    """Exclusive between processes and within this one. The file says who holds it (pid and host).

    Args:
        lock: asks the system for the lock.

    Raises:
        OSError: the file cannot be made.
    """

    def __init__(self, path: Path, *, lock: Callable[[int], None] = system_lock) -> None:
        self.path = path
        self._file = -1
        self._lock = lock

    def acquire(self) -> bool:
        """Takes the lock if it is free; never waits."""
        name = os.path.realpath(self.path)
        if name in _held:
            return False
        file = os.open(self.path, os.O_RDWR | os.O_CREAT, 0o600)
        if not self._is_free(file):
            os.close(file)
            return False
        _held.add(name)
        self._file = file
        self._sign()
        return True

    def release(self) -> None:
        """Gives it up; harmless when it is not held."""
        if self._file >= 0:
            _held.discard(os.path.realpath(self.path))
            os.close(self._file)
            self._file = -1

    def _is_free(self, file: int) -> bool:
        try:
            self._lock(file)
        except OSError as error:
            return error.errno in NO_LOCKS and not _holder_lives(self.path)
        return True

    def _sign(self) -> None:
        """On a full disk the lock holds without its note."""
        note = json.dumps({"pid": os.getpid(), "host": socket.gethostname()}).encode()
        try:
            os.lseek(self._file, 1, os.SEEK_SET)
            os.ftruncate(self._file, 1)
            os.write(self._file, note)
        except OSError:
            return


def holder(path: Path) -> dict[str, Any]:
    """Who took the lock last: ``pid`` and ``host``; empty if nobody says. Only for a lock this process does not hold."""
    try:
        note = json.loads(path.read_bytes()[1:] or b"{}")
    except (OSError, ValueError):
        return {}
    return note if isinstance(note, dict) else {}


def alive(pid: int) -> bool:
    """Whether a process of this number runs on this computer."""
    if pid <= 0:
        return False
    if sys.platform == "win32":
        import ctypes

        handle = ctypes.windll.kernel32.OpenProcess(0x00100000, False, pid)
        if not handle:
            return False
        lives = ctypes.windll.kernel32.WaitForSingleObject(handle, 0) == 0x102
        ctypes.windll.kernel32.CloseHandle(handle)
        return bool(lives)
    else:
        try:
            os.kill(pid, 0)
        except ProcessLookupError:
            return False
        except PermissionError:
            return True
        return not _is_zombie(pid)


def _is_zombie(pid: int) -> bool:
    """A child of ours that has ended stays in the process table until we wait for it."""
    try:
        with open(f"/proc/{pid}/stat", encoding="ascii", errors="replace") as file:
            return file.read().rpartition(")")[2].split()[0] == "Z"
    except OSError:
        return False


def _holder_lives(path: Path) -> bool:
    note = holder(path)
    pid = note.get("pid")
    return note.get("host") == socket.gethostname() and isinstance(pid, int) and alive(pid)
