"""A private PostgreSQL for tests: from the installed binaries, on a Unix socket in a temporary folder, seen by no one else."""

from __future__ import annotations

import os
import shutil
import subprocess
import tempfile
from pathlib import Path
from typing import Any

__all__ = ["PrivatePostgres", "binaries"]


def binaries() -> Path | None:
    """The folder of the newest installed server, None if there is none."""
    found = shutil.which("initdb")
    if found:
        return Path(found).resolve().parent
    installed = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[-3]))
    return installed[-1].parent if installed else None


class PrivatePostgres:
    """Started by :meth:`start`. PostgreSQL refuses to run as root; then it runs as ``postgres`` or ``nobody``."""

    def __init__(self) -> None:
        bin_folder = binaries()
        assert bin_folder is not None, "no PostgreSQL is installed"
        self._bin = bin_folder
        self.folder = Path(tempfile.mkdtemp(prefix="gw-pg-"))
        self._as: dict[str, Any] = {"cwd": self.folder}
        if os.geteuid() == 0:
            user = "postgres" if _exists("postgres") else "nobody"
            shutil.chown(self.folder, user)
            self._as |= {"user": user, "extra_groups": []}
        self._count = 0
        self._run(
            "initdb", "-D", "data", "-U", "test", "-A", "trust", "-E", "UTF8", "--no-sync", "--locale=C"
        )

    def start(self) -> None:
        """Accepts connections when this returns."""
        options = f"-c listen_addresses='' -c unix_socket_directories={self.folder} -c fsync=off -c max_connections=60"
        self._run("pg_ctl", "-D", "data", "-w", "-l", "log", "-o", options, "start")

    def stop(self, mode: str = "immediate") -> None:
        """``immediate`` is as good as pulling the plug of the process."""
        self._run("pg_ctl", "-D", "data", "-w", "-m", mode, "stop")

    def create(self) -> str:
        """The address of a new, empty database."""
        self._count += 1
        name = f"test{self._count}"
        self._run("createdb", "-h", str(self.folder), "-U", "test", name)
        return f"postgresql://test@/{name}?host={self.folder}"

    def remove(self) -> None:
        """Stops it if need be, and leaves nothing behind."""
        if (self.folder / "data" / "postmaster.pid").exists():
            self.stop()
        shutil.rmtree(self.folder)

    def _run(self, program: str, *args: str) -> None:
        # A server inherits the streams, so they must not be pipes that someone waits on.
        with tempfile.TemporaryFile() as output:
            done = subprocess.run(
                [self._bin / program, *args], stdout=output, stderr=output, check=False, **self._as
            )
            output.seek(0)
            assert done.returncode == 0, output.read().decode(errors="replace")


def _exists(user: str) -> bool:
    import pwd

    try:
        pwd.getpwnam(user)
    except KeyError:
        return False
    return True
