"""Settings: command line over environment over defaults, and nothing half-open."""

from __future__ import annotations

from pathlib import Path

import pytest

from gradwatch.errors import ConfigError
from gradwatch_server.config import Config, is_loopback

TOKEN = "a token that is long enough"


def test_defaults_are_for_one_person_on_one_computer(tmp_path: Path) -> None:
    config = Config.build({"GRADWATCH_DIR": str(tmp_path)})
    assert (config.host, config.port, config.port_given) == ("127.0.0.1", 8642, False)
    assert config.database == f"sqlite:///{tmp_path / 'gradwatch.db'}"
    assert config.reaches_only_itself
    assert config.link(8643) == "http://127.0.0.1:8643"


def test_what_is_said_wins_over_the_environment(tmp_path: Path) -> None:
    environ = {
        "GRADWATCH_PORT": "1",
        "GRADWATCH_PUBLIC_URL": "https://a.example/x/",
        "GRADWATCH_TOKEN": TOKEN,
    }
    config = Config.build(environ, directory=tmp_path, port="2", host=None)
    assert (config.port, config.port_given, config.token) == (2, True, TOKEN)
    assert config.public_url == "https://a.example/x"
    assert config.link(2) == "https://a.example/x"
    assert not config.reaches_only_itself


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.0.0.1", "watch.example"])
def test_others_may_connect_only_with_a_token(host: str) -> None:
    with pytest.raises(ConfigError, match="set a token first"):
        Config.build({}, host=host)
    assert Config.build({}, host=host, token=TOKEN).host == host
    assert Config.build({}, host=host, insecure_open=True).insecure_open


@pytest.mark.parametrize(
    ("host", "expected"),
    [
        ("127.0.0.1", True),
        ("127.8.8.8", True),
        ("::1", True),
        ("localhost", True),
        ("0.0.0.0", False),
        ("a.b", False),
    ],
)
def test_loopback(host: str, expected: bool) -> None:
    assert is_loopback(host) is expected


@pytest.mark.parametrize(
    ("given", "sentence"),
    [
        ({"port": "65536"}, "--port cannot be"),
        ({"port": "-1"}, "--port cannot be"),
        ({"token": "short"}, "at least 16"),
        ({"database": "redis://x"}, "give a file name"),
        ({"public_url": "ftp://x"}, "--public-url cannot be"),
        ({"trusted_proxies": "10.0.0.0/8, proxy.example"}, "--trusted-proxies cannot be 'proxy.example'"),
        ({"health": "perhaps"}, "use on or off"),
        ({"max_size": "much"}, "such as 10GB"),
        ({"max_size": "-1GB"}, "such as 10GB"),
        ({"exact_days": "-1"}, "a number of days"),
        ({"exact_days": "nan"}, "a number of days"),
        ({"root_path": "/a b"}, "--root-path cannot be"),
        ({"root_path": '/"><script>'}, "--root-path cannot be"),
    ],
)
def test_what_cannot_be_used_is_refused(given: dict[str, str], sentence: str) -> None:
    with pytest.raises(ConfigError, match=sentence):
        Config.build({}, **given)


def test_the_health_engine_may_be_off() -> None:
    assert Config.build({}).health
    assert not Config.build({"GRADWATCH_HEALTH": "off"}).health
    assert Config.build({"GRADWATCH_HEALTH": "off"}, health=True).health


@pytest.mark.parametrize(
    ("text", "size"),
    [("10GB", 10**10), ("1.5 tb", 15 * 10**11), ("2000", 2000), ("3M", 3 * 10**6), ("off", 0)],
)
def test_sizes(text: str, size: int) -> None:
    assert Config.build({"GRADWATCH_MAX_SIZE": text}).max_size == size


def test_database_names(tmp_path: Path) -> None:
    assert Config.build({}, database="/x/y.db").database == "sqlite:////x/y.db"
    assert Config.build({}, database="postgresql://u@h/d").database == "postgresql://u@h/d"
    assert Config.build({"GRADWATCH_DB": "/e.db"}, directory=tmp_path).database == "sqlite:////e.db"


def test_addresses() -> None:
    assert Config.build({}, host="::1").address(1) == "http://[::1]:1"
    assert Config.build({}, host="0.0.0.0", token=TOKEN).address(1) == "http://127.0.0.1:1"
    assert Config.build({}, root_path="watch/").address(1) == "http://127.0.0.1:1/watch"
