"""The deployment page holds what works: its unit, its proxy and its compose files are taken from there and tried."""

from __future__ import annotations

import argparse
import configparser
import re
import shutil
import ssl
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest
import yaml
from tests.nginx import _wait, certify, program
from tests.ports import free_port
from tests.server.live_server import Running, serving
from websockets.sync.client import connect

from gradwatch_server.serving import configure

PAGE = Path(__file__).parents[2] / "server" / "docs" / "deploy.md"


def blocks(language: str) -> list[str]:
    """The code of that language on the page."""
    return re.findall(rf"```{language}\n(.*?)```", PAGE.read_text(encoding="utf-8"), re.DOTALL)


def options(command: str) -> argparse.Namespace:
    """The arguments of a ``gradwatch serve`` command line, as the command itself reads them."""
    program, serve, *words = command.split()
    assert (Path(program).name, serve) == ("gradwatch", "serve")
    parser = argparse.ArgumentParser()
    configure(parser)
    return parser.parse_args(words)


def unit() -> configparser.ConfigParser:
    (text,) = blocks("ini")
    parser = configparser.ConfigParser(interpolation=None)
    parser.optionxform = str  # type: ignore[assignment]
    parser.read_string(text)
    return parser


def test_the_service_starts_what_exists_and_gives_it_time_to_end() -> None:
    service = unit()["Service"]
    said = options(service["ExecStart"])
    assert said.host == "127.0.0.1" and said.public_url.startswith("https://")
    assert int(service["TimeoutStopSec"]) >= 10


if shutil.which("systemd-analyze"):

    def test_systemd_has_nothing_to_say_about_the_unit(tmp_path: Path) -> None:
        (text,) = blocks("ini")
        path = tmp_path / "gradwatch.service"
        path.write_text(text.replace("/opt/gradwatch/bin/gradwatch", "/bin/true"))
        done = subprocess.run(
            ["systemd-analyze", "verify", "--man=no", path], capture_output=True, text=True, check=False
        )
        complaints = [line for line in done.stderr.splitlines() if "gradwatch.service" in line]
        assert complaints == []


@contextmanager
def documented_proxy(folder: Path, server: Running, listen: int) -> Iterator[tuple[str, Path]]:
    (text,) = blocks("nginx")
    certificate, key = certify(folder)
    text = text.replace("listen 443 ssl", f"listen 127.0.0.1:{listen} ssl")
    text = re.sub(r"ssl_certificate \S+;", f"ssl_certificate {certificate};", text)
    text = re.sub(r"ssl_certificate_key \S+;", f"ssl_certificate_key {key};", text)
    text = text.replace("127.0.0.1:8642", f"127.0.0.1:{server.port}")
    temporary = "".join(
        f"{name}_temp_path {folder}/{name};\n"
        for name in ("client_body", "proxy", "fastcgi", "uwsgi", "scgi")
    )
    (folder / "nginx.conf").write_text(
        f"daemon off; worker_processes 1; pid {folder}/pid; error_log {folder}/error.log;\n"
        f"events {{}}\nhttp {{ access_log off; {temporary}\n{text} }}\n"
    )
    process = subprocess.Popen([program(), "-p", str(folder), "-c", str(folder / "nginx.conf")])
    try:
        _wait(process, listen, folder / "error.log")
        yield f"localhost:{listen}", certificate
    finally:
        process.terminate()
        process.wait(60)


def test_the_proxy_passes_pages_and_sockets(tmp_path: Path) -> None:
    (tmp_path / "nginx").mkdir()
    with (
        serving(tmp_path / "server") as server,
        documented_proxy(tmp_path / "nginx", server, free_port()) as (host, certificate),
    ):
        trust = ssl.create_default_context(cafile=str(certificate))
        assert httpx.get(f"https://{host}/healthz", verify=trust).json()["status"] == "ok"
        for path in ("/ws/ingest", "/ws/live"):
            with connect(f"wss://{host}{path}", ssl=trust, proxy=None) as socket:
                socket.ping().wait(10)


COMPOSED = blocks("yaml")


@pytest.mark.parametrize("text", COMPOSED, ids=["sqlite", "postgresql"])
def test_the_compose_files_are_whole(text: str) -> None:
    plain: dict[str, Any] = yaml.safe_load(text)
    service = plain["services"]["gradwatch"]
    said = options(service["command"])
    assert said.host == "0.0.0.0" and said.directory == "/data"
    named = {volume.split(":")[0] for one in plain["services"].values() for volume in one["volumes"]}
    assert named == set(plain["volumes"])
    assert set(service.get("depends_on", {})) <= set(plain["services"])
    assert "GRADWATCH_TOKEN" in service["environment"] and service["stop_grace_period"] == "15s"
