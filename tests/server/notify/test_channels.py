"""Which addresses a channel may have."""

from __future__ import annotations

import pytest

from gradwatch_server.models import Channel
from gradwatch_server.notify.channels import check_address, masked


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("webhook", "https://example.com/hook?x=1"),
        ("webhook", "http://10.0.0.1:9000/"),
        ("apprise", "slack://TokenA/TokenB/TokenC/#training"),
        ("apprise", "mailtos://me:secret@example.com?to=you@example.com"),
        ("apprise", "ntfys://ntfy.example/topic"),
    ],
)
def test_good_addresses(kind: str, address: str) -> None:
    assert check_address(kind, address) == ""


@pytest.mark.parametrize(
    ("kind", "address"),
    [
        ("webhook", ""),
        ("webhook", "example.com"),
        ("webhook", "ftp://example.com"),
        ("webhook", "file:///etc/passwd"),
        ("webhook", "https://user:secret@example.com/"),
        ("webhook", "https://[::1"),
        ("webhook", "https://example.com/\r\nX: y"),
        ("webhook", "https://" + "x" * 3000),
        ("apprise", "slack"),
        ("apprise", "https://example.com"),
        ("apprise", "syslog://"),
        ("apprise", "dbus://"),
        ("apprise", "msteams://a/b/c?template=/etc/passwd"),
        ("apprise", "discord://a/b?Template=file:///etc/passwd"),
        ("apprise", "mailto://a:b@c.de?+keyfile=/etc/passwd"),
        ("pigeon", "coo://"),
    ],
)
def test_bad_addresses_are_told_in_a_sentence(kind: str, address: str) -> None:
    assert check_address(kind, address).endswith(".")


def test_a_shown_address_opens_nothing() -> None:
    hook = Channel(id="c", name="n", kind="webhook", address="https://hooks.example/T0/B0/secret")
    mail = Channel(id="c", name="n", kind="apprise", address="mailtos://me:secret@example.com")
    assert (masked(hook), masked(mail)) == ("https://hooks.example/…", "mailtos://…")
