"""What is special about a database that is one file: who holds it, and where it lies."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import IO, Final

from ..errors import StoreError

__all__ = ["MOUNTS", "FileLock", "network_file_system"]

NETWORK_FILE_SYSTEMS: Final = frozenset(
    [
        "9p",
        "afs",
        "beegfs",
        "ceph",
        "cifs",
        "davfs",
        "fuse.glusterfs",
        "fuse.s3fs",
        "fuse.sshfs",
        "glusterfs",
        "gpfs",
        "lustre",
        "ncpfs",
        "nfs",
        "nfs4",
        "orangefs",
        "panfs",
        "pvfs2",
        "smb2",
        "smb3",
        "smbfs",
    ]
)
"""File systems on which SQLite's write-ahead log is not safe: its index is shared memory, which two hosts don't share
(sqlite.org/wal.html, "All processes using a database must be on the same host computer")."""


MOUNTS: Final = Path("/proc/mounts")


def network_file_system(path: Path, mounts: Path = MOUNTS) -> str:
    """The type of the network file system that ``path`` lies on, "" if it is local or can't be told (not Linux)."""
    try:
        lines = mounts.read_text(encoding="utf-8", errors="replace").splitlines()
    except OSError:
        return ""
    place = path.resolve()
    best, kind = -1, ""
    for line in lines:
        fields = line.split()
        if len(fields) < 3:
            continue
        mount = Path(fields[1].replace("\\040", " "))
        if (place == mount or mount in place.parents) and len(mount.parts) >= best:
            best, kind = len(mount.parts), fields[2]
    return kind if kind in NETWORK_FILE_SYSTEMS else ""


class FileLock:
    """Holds ``path`` for this process as long as it lives; the system lets go of it even after SIGKILL.

    Raises:
        StoreError: another process holds it.
    """

    def __init__(self, path: Path) -> None:
        self._file: IO[bytes] = path.open("a+b")
        try:
            _lock(self._file.fileno())
        except OSError:
            self._file.seek(0)
            holder = self._file.read(32).decode("ascii", "replace").strip() or "unknown"
            self._file.close()
            raise StoreError(
                f"another gradwatch server (process {holder}) has the database {path.with_suffix('')} open. "
                "Use that one, stop it with `gradwatch stop`, or give this one another file with --db."
            ) from None
        self._file.truncate(0)
        self._file.write(str(os.getpid()).encode())
        self._file.flush()

    def release(self) -> None:
        """Lets go. The file stays: removing it would let two processes hold two files of one name."""
        self._file.close()


if sys.platform == "win32":
    import msvcrt

    _FAR: Final = 1 << 30  # beyond the process id, which must stay readable

    def _lock(fd: int) -> None:
        os.lseek(fd, _FAR, os.SEEK_SET)
        msvcrt.locking(fd, msvcrt.LK_NBLCK, 1)
        os.lseek(fd, 0, os.SEEK_SET)

else:
    import fcntl

    def _lock(fd: int) -> None:
        fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
