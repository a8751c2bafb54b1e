"""A copied link opened on another computer works, or was never offered: two network namespaces play the two computers.

Making namespaces takes root, as CI has it. Anybody else opens the link on the same computer, through its address on the
network if it has one.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from tests.server.live_server import hello

from gradwatch_server.store import Store

TOKEN = "a token of some length"
HERE, THERE = "198.51.100.1", "198.51.100.2"
pytestmark = pytest.mark.slow

WAIT_S = 30.0

ASK = """
import json, sys, urllib.request, urllib.error
method, url, token, body = sys.argv[1:]
headers = {"Content-Type": "application/json", **({"Authorization": "Bearer " + token} if token else {})}
request = urllib.request.Request(url, method=method, headers=headers, data=body.encode() or None)
try:
    with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(request, timeout=5) as reply:
        print(json.dumps([reply.status, reply.read().decode()]))
except urllib.error.HTTPError as error:
    print(json.dumps([error.code, error.read().decode()]))
except OSError as error:
    print(json.dumps([0, str(error)]))
"""


@dataclass(frozen=True)
class Computer:
    """Where commands run: ``enter`` stands in front of each."""

    enter: tuple[str, ...] = ()

    def ask(self, method: str, url: str, token: str = "", body: str = "") -> tuple[int, str]:
        """The answer to a request from here; status 0 when nobody is reached."""
        command = [*self.enter, sys.executable, "-c", ASK, method, url, token, body]
        done = subprocess.run(command, capture_output=True, text=True, timeout=WAIT_S, check=True)
        status, text = json.loads(done.stdout)
        return status, text


@dataclass(frozen=True)
class Network:
    """The computer with the server, another one, and the address of the first as the other knows it ("" if there is none)."""

    here: Computer
    there: Computer
    address: str


def ip(*words: str) -> bool:
    """Runs ``ip``; whether it did what was asked."""
    return subprocess.run(["ip", *words], capture_output=True).returncode == 0


def own_address() -> str:
    """An address of this computer that isn't loopback."""
    done = subprocess.run(["ip", "-json", "-4", "addr"], capture_output=True, text=True)
    found = json.loads(done.stdout) if done.returncode == 0 else []
    addresses = [one["local"] for link in found for one in link["addr_info"] if one["scope"] == "global"]
    return addresses[0] if addresses else ""


@pytest.fixture(scope="module")
def network() -> Iterator[Network]:
    one, two = f"gw-a-{os.getpid()}", f"gw-b-{os.getpid()}"
    if os.geteuid() != 0 or not ip("netns", "add", one):
        yield Network(Computer(), Computer(), own_address())
        return
    try:
        steps = [
            ["netns", "add", two],
            ["link", "add", "eth0", "netns", one, "type", "veth", "peer", "name", "eth0", "netns", two],
            ["-n", one, "addr", "add", f"{HERE}/30", "dev", "eth0"],
            ["-n", two, "addr", "add", f"{THERE}/30", "dev", "eth0"],
            *(["-n", name, "link", "set", device, "up"] for name in (one, two) for device in ("lo", "eth0")),
        ]
        assert all(ip(*words) for words in steps)
        computers = [Computer(("ip", "netns", "exec", name)) for name in (one, two)]
        yield Network(computers[0], computers[1], HERE)
    finally:
        ip("netns", "del", one)
        ip("netns", "del", two)


class Served:
    """``gradwatch serve`` on a computer, with a run."""

    def __init__(self, computer: Computer, folder: Path, options: Sequence[str]) -> None:
        self._computer = computer
        command = [*computer.enter, sys.executable, "-m", "gradwatch_server", "serve", "--port", "0"]
        environment = {k: v for k, v in os.environ.items() if not k.startswith("GRADWATCH_")}
        self.process = subprocess.Popen(
            [*command, "--dir", str(folder), *options],
            env=environment | {"GRADWATCH_TOKEN": TOKEN, "PYTHONUNBUFFERED": "1"},
            stdout=subprocess.PIPE,
            text=True,
        )
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert "is ready at" in line, line
        self.port = int(line.split("is ready at ")[1].split()[0].rsplit(":", 1)[1])

    def share(self, asked: str, run: str) -> dict[str, Any]:
        """A link, made by an owner who reached the server as ``asked``."""
        url = f"http://{asked}:{self.port}/api/v1/shares"
        status, text = self._computer.ask("POST", url, TOKEN, json.dumps({"run": run}))
        assert status == 201, text
        made: dict[str, Any] = json.loads(text)
        return made

    def stop(self) -> None:
        self.process.terminate()
        self.process.communicate(timeout=WAIT_S)


def with_a_run(folder: Path) -> str:
    """Puts a run into the database that the server will use."""
    store = Store.open(str(folder / "gradwatch.db"))
    try:
        store.open_stream(hello("r"), now=1.0).result(WAIT_S)
    finally:
        store.close()
    return "r"


@pytest.mark.parametrize("options", [(), ("--host", "0.0.0.0")], ids=["loopback", "every address"])
def test_a_copied_link_opens_elsewhere_or_was_never_offered(
    network: Network, tmp_path: Path, options: Sequence[str]
) -> None:
    run = with_a_run(tmp_path)
    served = Served(network.here, tmp_path, options)
    try:
        made = [served.share("127.0.0.1", run)]
        if options and network.address:
            made.append(served.share(network.address, run))
            assert made[1]["reach"]["public"]
        for link in made:
            assert network.here.ask("GET", link["url"])[0] == 200
            opened, text = network.there.ask("GET", link["url"])
            if link["reach"]["public"]:
                assert opened == 200 and '"role": "viewer"' in text, (link["url"], text)
            else:
                assert link["reach"]["who"] == "Only this computer can open this link."
                assert link["reach"]["ways"]
                assert opened == 0 or network.there == network.here
    finally:
        served.stop()
