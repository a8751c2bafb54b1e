"""Who can open a link, by how the server listens and how its owner came to it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from gradwatch_server.config import Config
from gradwatch_server.sharing import reach_of

TOKEN = "a token of some length"


@pytest.mark.parametrize(
    ("settings", "asked", "address", "public"),
    [
        ({}, "127.0.0.1:8642", "http://127.0.0.1:8642", False),
        ({"host": "localhost"}, "localhost:8642", "http://localhost:8642", False),
        ({}, "evil.example", "http://127.0.0.1:8642", False),
        ({"public_url": "http://localhost:9000"}, "localhost:9000", "http://localhost:9000", False),
        ({"public_url": "https://lab.example/gw"}, "127.0.0.1:8642", "https://lab.example/gw", True),
        ({"host": "192.0.2.7"}, "192.0.2.7:8642", "http://192.0.2.7:8642", True),
        ({"host": "0.0.0.0"}, "gpu7.example:8642", "http://gpu7.example:8642", True),
        ({"host": "::"}, "[2001:db8::7]:8642", "http://[2001:db8::7]:8642", True),
    ],
)
def test_reach(settings: dict[str, Any], asked: str, address: str, public: bool, tmp_path: Path) -> None:
    config = Config.build({}, directory=tmp_path, token=TOKEN, **settings)
    reach = reach_of(config, 8642, asked)
    assert (reach.address, reach.public) == (address, public)
    assert ("Only this computer" in reach.who) is not public


def test_a_server_on_all_addresses_never_offers_a_loopback_link(tmp_path: Path) -> None:
    config = Config.build({}, directory=tmp_path, token=TOKEN, host="0.0.0.0")
    for asked in ("127.0.0.1:8642", "localhost:8642", "0.0.0.0:8642", ""):
        assert not reach_of(config, 8642, asked).address.startswith(
            ("http://127.", "http://0.", "http://localhost")
        )
