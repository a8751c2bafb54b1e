"""A private nginx for tests, with TLS by a certificate of its own, configured as ``server/docs/serve.md`` says."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

__all__ = ["Proxy", "nginx"]

DOCS = Path(__file__).parents[1] / "server" / "docs" / "serve.md"
PREFIX = "/gradwatch"


@dataclass(frozen=True, kw_only=True)
class Proxy:
    """A proxy that listens. ``certificate`` is the file that clients must trust."""

    port: int
    certificate: Path

    @property
    def origin(self) -> str:
        """The address without the prefix."""
        return f"https://localhost:{self.port}"


def documented(port: int) -> str:
    """The location block that the documentation gives, for a server on ``port``."""
    found = re.search(r"```nginx\n(.*?)```", DOCS.read_text(), re.DOTALL)
    assert found is not None and "127.0.0.1:8642" in found[1]
    return found[1].replace("127.0.0.1:8642", f"127.0.0.1:{port}")


def program() -> str:
    """The installed nginx; without one the test is skipped, but never where CI runs."""
    found = shutil.which("nginx", path=f"{os.environ['PATH']}:/usr/sbin")
    if found is None:
        assert os.environ.get("CI") != "true", "nginx is missing: .ci/system-packages installs it"
        pytest.skip("nginx is not installed: .ci/system-packages installs it")
    return found


def certify(folder: Path) -> tuple[Path, Path]:
    """A certificate for localhost that lasts for a day, and its key."""
    certificate, key = folder / "certificate.pem", folder / "key.pem"
    command = ["openssl", "req", "-x509", "-nodes", "-days", "1", "-newkey", "ec"]
    command += ["-pkeyopt", "ec_paramgen_curve:prime256v1", "-subj", "/CN=localhost"]
    command += ["-addext", "subjectAltName=DNS:localhost", "-keyout", str(key), "-out", str(certificate)]
    subprocess.run(command, check=True, capture_output=True)
    return certificate, key


@contextlib.contextmanager
def nginx(folder: Path, port: int, listen: int) -> Iterator[Proxy]:
    """Listens on ``localhost:listen`` in front of a server on ``port``, under :data:`PREFIX`."""
    command = program()
    folder.mkdir(parents=True, exist_ok=True)
    certificate, key = certify(folder)
    user = "user root;" if os.geteuid() == 0 else ""
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log; {user}\n"
        f"events {{ worker_connections 256; }}\nhttp {{ access_log off; {temporary}\n"
        f"server {{ listen 127.0.0.1:{listen} ssl; ssl_certificate {certificate}; ssl_certificate_key {key};\n"
        f"{documented(port)} }} }}\n"
    )
    process = subprocess.Popen([command, "-p", str(folder), "-c", str(folder / "nginx.conf")])
    try:
        _wait(process, listen, folder / "error.log")
        yield Proxy(port=listen, certificate=certificate)
    finally:
        process.terminate()
        process.wait(60)


def _wait(process: subprocess.Popen[bytes], port: int, log: Path) -> None:
    """Returns when it accepts connections."""
    while process.poll() is None:
        with contextlib.suppress(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), timeout=20).close()
            return
    raise AssertionError(log.read_text())
