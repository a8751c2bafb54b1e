"""What messages may connect to: tried with real sockets, through real libraries."""

from __future__ import annotations

import socket
import threading
import urllib.error
import urllib.request

import pytest

from gradwatch_server.notify.guard import Refused, allowed_networks, guarded, is_public

from .sinks import http_sink


@pytest.mark.parametrize(
    ("address", "public"),
    [
        ("93.184.215.14", True),
        ("2606:2800:21f:cb07:6820:80da:af6b:8b2c", True),
        ("127.0.0.1", False),
        ("127.8.8.8", False),
        ("0.0.0.0", False),
        ("10.1.2.3", False),
        ("172.16.0.1", False),
        ("192.168.1.1", False),
        ("169.254.169.254", False),
        ("100.64.0.1", False),
        ("224.0.0.1", False),
        ("::1", False),
        ("::", False),
        ("fe80::1%eth0", False),
        ("fd00::1", False),
        ("::ffff:127.0.0.1", False),
        ("::ffff:93.184.215.14", True),
        ("2002:7f00:1::", False),
        ("64:ff9b::7f00:1", False),
        ("ff02::1", False),
    ],
)
def test_which_addresses_are_public(address: str, public: bool) -> None:
    assert is_public(address) is public


@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", "127.1", "0x7f000001", "2130706433"])
def test_no_way_of_writing_it_reaches_this_computer(host: str) -> None:
    with http_sink() as sink:
        port = sink.url.rpartition(":")[2]
        with guarded(()) as guard:
            with pytest.raises(urllib.error.URLError):
                urllib.request.urlopen(f"http://{host}:{port}/", data=b"x", timeout=5)
            assert guard.refused in ("127.0.0.1", "::1")
        assert sink.got == []


def test_a_redirect_is_followed_no_further_than_the_guard_allows() -> None:
    with http_sink() as inside, http_sink() as outside:
        inside_port = int(inside.url.rpartition(":")[2])
        outside.status, outside.location = 302, f"http://127.0.0.2:{inside_port}/"
        with guarded(allowed_networks(["127.0.0.1/32"])) as guard:
            with pytest.raises(urllib.error.URLError):
                urllib.request.urlopen(
                    urllib.request.Request(outside.url, method="GET", headers={"Content-Length": "0"}),
                    timeout=5,
                )
            assert guard.refused == "127.0.0.2"
        assert len(outside.got) == 1 and inside.got == []


def test_a_name_that_changes_its_address_after_a_look_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    """DNS rebinding: whoever asked first got a public address; the connection would go to this computer."""
    answers = iter(["93.184.215.14", "127.0.0.1", "127.0.0.1"])

    def resolve(host: str, port: int, *_: object, **__: object) -> list[object]:
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", (next(answers), port))]

    monkeypatch.setattr(socket, "getaddrinfo", resolve)
    with http_sink() as sink:
        port = int(sink.url.rpartition(":")[2])
        first = socket.getaddrinfo("rebind.example", port)[0][4][0]
        assert is_public(str(first))
        with guarded(()) as guard:
            with pytest.raises(urllib.error.URLError):
                urllib.request.urlopen(f"http://rebind.example:{port}/", data=b"x", timeout=5)
            assert guard.refused == "127.0.0.1"
        assert sink.got == []


def test_unix_sockets_and_datagrams_are_guarded_too(tmp_path: object) -> None:
    with guarded(()):
        with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as stream, pytest.raises(Refused):
            stream.connect(f"{tmp_path}/a.sock")
        with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as datagram, pytest.raises(Refused):
            datagram.sendto(b"x", ("127.0.0.1", 514))


def test_only_the_sending_thread_is_guarded() -> None:
    with http_sink() as sink, guarded(()):
        failed: list[Exception] = []

        def other() -> None:
            try:
                urllib.request.urlopen(sink.url, data=b"x", timeout=5).close()
            except OSError as error:
                failed.append(error)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert not failed and len(sink.got) == 1
    with http_sink() as sink:
        urllib.request.urlopen(sink.url, data=b"x", timeout=5).close()
        assert len(sink.got) == 1
