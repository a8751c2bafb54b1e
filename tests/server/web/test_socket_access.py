"""Every message of the live socket, sent by everybody: made from the socket's own table, so that a new one can't be forgotten."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
from tests.server.live_server import SHOWN, Page, Running, Trainer, batch, hello, schema, serving
from websockets.exceptions import ConnectionClosed

from gradwatch_server.web.live import MESSAGES


@pytest.fixture(autouse=True)
def no_thread_is_left() -> None:
    """The module's server lives on after a test, with threads that came during it; ``serving`` sees to their end."""


class World:
    """Two runs, a link to the first, and a token of each role."""

    def __init__(self, server: Running) -> None:
        self.server = server
        for run in ("run-1", "run-2"):
            with Trainer(server, hello(run)) as trainer:
                trainer.send(schema(), batch(1, [0, 1], np.ones((2, 3)), [1.0, 2.0]))
                trainer.wait_acked(2)
        with server.owner() as api:
            made = api.post("/api/v1/shares", json={"run": "run-1"})
            self.share: str = made.json()["token"]
            ended = api.post("/api/v1/shares", json={"run": "run-1"}).json()
            api.delete(f"/api/v1/shares/{ended['share']['id']}")
            self.ended: str = ended["token"]
            self.secrets = {
                role: api.post("/api/v1/tokens", json={"name": role, "role": role}).json()["secret"]
                for role in ("owner", "member", "trainer")
            }


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    with serving(tmp_path_factory.mktemp("socket")) as server:
        yield World(server)


def subscribes(page: Page, run: str) -> bool:
    page.say(type="subscribe", id=1, run=run, statistic="loss", scope="run")
    while True:
        got = page.next()
        if not isinstance(got, dict):
            assert got.series.last.tolist() == [[1.0, 2.0]]
            return True
        if got["type"] == "error":
            assert got["code"] == "not_found"
            return False


def unsubscribes(page: Page, run: str) -> bool:
    """Ends a view that was never there: nothing comes of it, and nothing is said of the run."""
    page.say(type="unsubscribe", id=1, run=run)
    return pings(page, run)


def pings(page: Page, run: str) -> bool:
    page.say(type="ping", run=run)
    return bool(page.hear("pong")["now"])


HEARD = {"owner": {"run-1", "run-2"}, "member": {"run-1", "run-2"}, "link": {"run-1"}}


def test_follow_narrows_what_is_heard_and_never_widens_it(world: World) -> None:
    for who, page in {"owner": by_token(world, "owner"), "link": by_link(world)}.items():
        with page:
            page.say(type="follow", run=None)
            pings(page, "")
            heard = set()
            with world.server.owner() as api:
                for run in ("run-2", "run-1"):
                    api.patch(f"/api/v1/runs/{run}", json={"notes": f"of {run}"})
            while "run-1" not in heard:
                event = page.hear("event", kind="run")
                heard.add(event["run"])
                assert ("of run-" in str(event)) == ("secret-" in str(event)) == (who == "owner")
                if who == "link":
                    assert event["data"]["context"] == SHOWN
            assert heard == HEARD[who]


def follows(page: Page, run: str) -> bool:
    """Choosing what to hear about is allowed to all; what comes of it is tested above."""
    page.say(type="follow", run=run)
    return pings(page, run)


ASK: dict[str, Callable[[Page, str], bool]] = {
    "subscribe": subscribes,
    "unsubscribe": unsubscribes,
    "follow": follows,
    "ping": pings,
}
"""One row per message: sends it about a run, and says whether the run was shown or the message granted."""

GUARDED = {"subscribe"}
"""Messages that show something of a run."""


def by_token(world: World, role: str) -> Page:
    return Page(world.server, bearer=world.secrets[role])


def by_link(world: World) -> Page:
    return Page(world.server, share=world.share)


def test_every_message_has_a_row() -> None:
    assert set(MESSAGES) == set(ASK)


@pytest.mark.parametrize("message", MESSAGES)
@pytest.mark.parametrize("run", ["run-1", "run-2"])
def test_who_may_send_what_about_which_run(world: World, message: str, run: str) -> None:
    for role in ("owner", "member"):
        with by_token(world, role) as page:
            assert ASK[message](page, run)
    with by_link(world) as page:
        assert ASK[message](page, run) is (run == "run-1" or message not in GUARDED)


@pytest.mark.parametrize("message", MESSAGES)
def test_who_is_nobody_says_nothing_at_all(world: World, message: str) -> None:
    refused: list[dict[str, Any]] = [
        {"bearer": world.secrets["trainer"]},
        {"bearer": "wrong"},
        {"share": world.ended},
        {"share": "x" * 32},
    ]
    for who in refused:
        with pytest.raises(ConnectionClosed), Page(world.server, **who) as page:
            ASK[message](page, "run-1")
