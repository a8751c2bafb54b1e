"""What a client of an earlier release said, as it was recorded, to the server of today. Recordings are never made anew; each
release adds its own, and the two latest minor ones must be understood."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from tests.server.live_server import PATIENCE, serving
from websockets.sync.client import connect

from gradwatch.errors import VersionMismatch
from gradwatch.protocol import ClientSession, Hello, ServerSession, Welcome, decode, encode
from gradwatch.protocol.session import Opened

FOLDER = Path(__file__).parent / "recorded"
RELEASES = sorted(path.stem for path in FOLDER.glob("*.jsonl"))


@pytest.mark.parametrize("release", RELEASES)
def test_a_recorded_session_is_taken_and_stored(release: str, tmp_path: Path) -> None:
    challenge, hello, schema, bye = (FOLDER / f"{release}.jsonl").read_text().splitlines()
    with serving(tmp_path, insecure_open=True) as server:
        with connect(f"{server.socket_url}/ws/ingest", compression=None, proxy=None) as socket:
            socket.send(challenge)
            assert json.loads(socket.recv(timeout=PATIENCE))["type"] == "challenge"
            socket.send(hello)
            welcome = json.loads(socket.recv(timeout=PATIENCE))
            assert (welcome["type"], welcome["next_seq"], welcome["version"]) == ("welcome", 0, 1)
            for data in (schema, (FOLDER / f"{release}.batch.bin").read_bytes(), bye):
                socket.send(data)
            acked = 0
            while acked < 3:
                acked = json.loads(socket.recv(timeout=PATIENCE))["next_seq"]
        run_id = json.loads(hello)["run_id"]
        run = server.services.store.run(run_id)
        assert run is not None and (run.state, run.steps) == ("finished", 3)
        found = server.services.store.values(run_id, "grad_norm")
        assert found.values.tolist() == [[0, 1], [2, 3], [4, 5]]


def session(versions: range) -> ServerSession:
    return ServerSession(nonce="s", key_for=lambda _: "", versions=versions)


HELLO = Hello(run_id="r", run_key="k", project="p", name="n", stream="s", segment="g", version=2)


@pytest.mark.parametrize("versions", [range(1, 4), range(2, 3), range(2, 5)])
def test_a_newer_server_speaks_the_version_of_an_older_client(versions: range) -> None:
    client, server = ClientSession(HELLO, nonce="c"), session(versions)
    (challenge,), _ = server.receive(client.start())
    (hello,), _ = client.receive(challenge)
    server.receive(hello)
    welcome = server.welcome(Welcome(next_seq=7, version=99))
    told = decode(welcome)
    assert isinstance(told, Welcome) and told.version == 2
    _, (opened,) = client.receive(welcome)
    assert isinstance(opened, Opened) and opened.welcome.next_seq == 7


@pytest.mark.parametrize(("versions", "side"), [(range(3, 5), "client's"), (range(1, 2), "server's")])
def test_versions_too_far_apart_say_which_side_to_upgrade(versions: range, side: str) -> None:
    server = session(versions)
    client = ClientSession(HELLO, nonce="c")
    (challenge,), _ = server.receive(client.start())
    (hello,), _ = client.receive(challenge)
    with pytest.raises(VersionMismatch, match=f"upgrade gradwatch on the {side} side"):
        server.receive(hello)


def test_fields_that_a_newer_client_adds_are_passed_over() -> None:
    plain = json.loads(str(encode(HELLO)))
    assert decode(json.dumps({**plain, "shape_of_things": {"to": "come"}})) == HELLO
