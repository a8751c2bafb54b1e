"""The two state machines against each other, and each against a liar."""

from __future__ import annotations

import json

import pytest

from gradwatch.errors import ConnectionRefused, ProtocolError, VersionMismatch
from gradwatch.protocol import (
    Ack,
    Bye,
    ClientSession,
    Error,
    Heartbeat,
    Hello,
    Mark,
    ServerSession,
    Welcome,
    auth,
    encode,
)
from gradwatch.protocol.session import Acked, Beat, HelloReceived, Opened, RecordReceived, State, Warned

KEY = auth.key_of("a token")
HELLO = Hello(run_id="r1", run_key="k", project="p", name="n", stream="s", segment="g")


def key_for(key_id: str) -> str | None:
    return {auth.key_id(KEY): KEY}.get(key_id)


def opened(next_seq: int = 0) -> tuple[ClientSession, ServerSession]:
    client = ClientSession(HELLO, nonce="c", key=KEY)
    server = ServerSession(nonce="s", key_for=key_for)
    answers, _ = server.receive(client.start())
    hellos, _ = client.receive(answers[0])
    _, events = server.receive(hellos[0])
    assert isinstance(events[0], HelloReceived)
    assert events[0].hello.run_id == "r1"
    _, ready = client.receive(server.welcome(Welcome(next_seq=next_seq)))
    assert isinstance(ready[0], Opened)
    return client, server


def mark(seq: int) -> str:
    return str(encode(Mark(seq=seq, step=0, time=0.0, kind="note")))


def test_both_prove_themselves_and_the_session_opens() -> None:
    client, server = opened()
    assert client.state is server.state is State.OPEN


def test_nothing_is_said_to_a_server_that_does_not_know_the_key() -> None:
    client = ClientSession(HELLO, nonce="c", key=KEY)
    stranger = ServerSession(nonce="s", key_for=lambda _: auth.key_of("another"))
    answers, _ = stranger.receive(client.start())
    with pytest.raises(ConnectionRefused, match="does not know our token") as refused:
        client.receive(answers[0])
    assert refused.value.code == "stranger"
    assert client.state is State.CLOSED


def test_the_first_message_tells_nothing_but_a_nonce() -> None:
    hello = Hello(run_id="RUN", run_key="SECRET", project="PROJECT", name="NAME", stream="S", segment="G")
    first = ClientSession(hello, nonce="c", key=KEY).start()
    assert set(json.loads(first)) == {"type", "nonce", "key_id", "proof"}
    assert not [word for word in ("RUN", "SECRET", "PROJECT", "NAME", KEY, "a token") if word in first]


def test_a_client_without_the_key_is_refused() -> None:
    server = ServerSession(nonce="s", key_for=key_for)
    with pytest.raises(ConnectionRefused, match="GRADWATCH_TOKEN"):
        server.receive(ClientSession(HELLO, nonce="c").start())


def test_a_replayed_proof_is_refused() -> None:
    client = ClientSession(HELLO, nonce="c", key=KEY)
    first = ServerSession(nonce="s", key_for=key_for)
    answers, _ = first.receive(client.start())
    hellos, _ = client.receive(answers[0])
    second = ServerSession(nonce="another", key_for=key_for)
    second.receive(client.start())
    with pytest.raises(ConnectionRefused, match="not right"):
        second.receive(hellos[0])


def test_a_newer_version_is_told_which_side_to_upgrade() -> None:
    server = ServerSession(nonce="s", key_for=lambda _: "")
    server.receive(ClientSession(HELLO, nonce="c").start())
    newer = '{"type":"hello","version":2,"run_id":"r","run_key":"k","project":"p","name":"n","stream":"s","segment":"g"}'
    with pytest.raises(VersionMismatch, match="server's side"):
        server.receive(newer)


def test_records_come_in_order_once() -> None:
    _, server = opened(next_seq=5)
    assert server.receive(mark(4)) == ([], [])
    _, events = server.receive(mark(5))
    assert isinstance(events[0], RecordReceived)
    assert server.receive(mark(5)) == ([], [])
    with pytest.raises(ProtocolError, match="record 8 arrived where 6"):
        server.receive(mark(8))


def test_acks_heartbeats_and_the_end_pass_through() -> None:
    client, server = opened()
    assert client.receive(encode(Ack(next_seq=3))) == ([], [Acked(3)])
    beat = Heartbeat(time=1.0, step=2)
    assert server.receive(encode(beat)) == ([], [Beat(beat)])
    _, events = server.receive(encode(Bye(seq=0, state="finished", time=1.0)))
    assert isinstance(events[0], RecordReceived)


def test_a_fatal_error_ends_the_clients_session_with_the_servers_sentence() -> None:
    client, server = opened()
    text = server.fail(ConnectionRefused("run_key", "another client owns this run"))
    with pytest.raises(ConnectionRefused, match="another client owns"):
        client.receive(text)


def test_a_warning_does_not() -> None:
    client, _ = opened()
    assert client.receive(encode(Error(code="busy", message="wait", fatal=False))) == (
        [],
        [Warned("busy", "wait")],
    )


@pytest.mark.parametrize("text", [encode(Ack(next_seq=0)), encode(HELLO), mark(0)])
def test_messages_out_of_place_are_refused(text: str) -> None:
    server = ServerSession(nonce="s", key_for=key_for)
    with pytest.raises(ProtocolError, match="in state challenge"):
        server.receive(text)
    client = ClientSession(HELLO, nonce="c", key=KEY)
    with pytest.raises(ProtocolError, match="in state challenge"):
        client.receive(text)
