"""The outbox at work: messages are made in the commit that stores an alert, and sent until they arrive or are given up.

A message is noted as sent right after it was. If the server is killed in between, it goes out once more: its id, in the
header ``X-Gradwatch-Id`` of webhooks, is the same both times.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

from gradwatch.errors import GradwatchError

from ..models import Alert, Channel, Notification, Rule
from ..store import Store, queries
from ..store import notify_queries as sql
from .guard import Network, guarded
from .messages import RANK, compose, notification_id
from .senders import SENDERS, Undelivered

if TYPE_CHECKING:
    from sqlalchemy import Connection

__all__ = ["Courier", "backoff"]

DAY: Final = 86_400.0
MOST_A_DAY: Final = 3
"""Messages about one run that fire in a day, per channel; one of a higher severity than those before still goes out."""

MOST_ATTEMPTS: Final = 10
FIRST_WAIT: Final = 5.0
LONGEST_WAIT: Final = 3_600.0
AT_ONCE: Final = 20
IDLE: Final = 30.0
KEEP: Final = 30 * DAY

Sender = Callable[[Channel, Notification], None]
log = logging.getLogger("gradwatch.server")


def backoff(attempts: int) -> float:
    """Seconds until the next attempt after so many failed ones: 5 s, doubling, at most an hour."""
    return float(min(LONGEST_WAIT, FIRST_WAIT * 2 ** (attempts - 1)))


class Courier:
    """Queues messages in the writer thread, and sends them.

    Args:
        store: where outbox and channels stand.
        clock: seconds since 1970.
        link: gives the address of the pages, for links in messages.
        rule_of: finds a rule; None when there is none (any more).
        allowed: private networks that may be reached all the same.
        senders: how each kind of channel is spoken to.
    """

    def __init__(
        self,
        store: Store,
        clock: Callable[[], float],
        link: Callable[[], str],
        rule_of: Callable[[str], Rule | None],
        allowed: Sequence[Network] = (),
        senders: Mapping[str, Sender] = SENDERS,
    ) -> None:
        self._store = store
        self._clock = clock
        self._link = link
        self._rule_of = rule_of
        self._allowed = allowed
        self._senders = senders
        self._wake = asyncio.Event()
        self._threads = ThreadPoolExecutor(4, thread_name_prefix="gradwatch-courier")
        self._loop = asyncio.get_running_loop()

    def queue(self, conn: Connection, kind: str, alert: Alert) -> None:
        """Makes the messages about an alert that opened or closed, within the write that stores it.

        One that clears is sent where its firing was. Nothing is sent of a muted alert.
        """
        now = self._clock()
        if alert.muted_until is not None and alert.muted_until > now:
            return
        rule = self._rule_of(alert.rule_id)
        wanted = set(rule.channels) if rule is not None else set()
        row = queries.find_run(conn, alert.run_id)
        run = None if row is None else queries.run_of(row)
        for channel in sql.list_channels(conn):
            if not channel.enabled or (wanted and channel.id not in wanted):
                continue
            if kind == "opened" and self._may_fire(conn, channel, alert, now):
                sql.add_message(conn, compose(alert, run, channel, "fired", link=self._link(), now=now))
            elif kind == "closed" and sql.has_message(conn, notification_id(alert.id, channel.id, "fired")):
                sql.add_message(conn, compose(alert, run, channel, "cleared", link=self._link(), now=now))

    def wake(self) -> None:
        """Looks into the outbox now."""
        self._wake.set()

    def _may_fire(self, conn: Connection, channel: Channel, alert: Alert, now: float) -> bool:
        if RANK[alert.severity] < RANK[channel.least]:
            return False
        today = sql.fired_since(conn, channel.id, alert.run_id, now - DAY)
        if len(today) < MOST_A_DAY:
            return True
        return all(RANK[alert.severity] > RANK[severity] for severity in today)

    async def run(self) -> None:
        """Sends what is due, until cancelled."""
        while True:
            self._wake.clear()
            try:
                while await self.deliver():
                    pass
                due = await asyncio.to_thread(self._store.database.read, sql.next_due)
            except GradwatchError as error:
                log.error("messages can't be read from the outbox: %s", error)
                due = None
            wait = IDLE if due is None else min(IDLE, max(0.5, due - self._clock()))
            try:
                await asyncio.wait_for(self._wake.wait(), wait)
            except asyncio.TimeoutError:
                await self._write(lambda conn: sql.sweep_messages(conn, self._clock() - KEEP))

    async def deliver(self) -> int:
        """Tries what is due now, once each; how many that were."""
        now = self._clock()
        messages = await asyncio.to_thread(
            self._store.database.read, lambda conn: sql.due_messages(conn, now, AT_ONCE)
        )
        known = {c.id: c for c in await asyncio.to_thread(self._store.database.read, sql.list_channels)}
        await asyncio.gather(*(self._deliver(message, known.get(message.channel_id)) for message in messages))
        return len(messages)

    async def _deliver(self, message: Notification, channel: Channel | None) -> None:
        error = "the channel was removed"
        if channel is not None:
            error = await self.send(channel, message)
        attempts, now = message.attempts + 1, self._clock()
        values: dict[str, Any] = {"attempts": attempts, "error": error}
        if not error:
            values["state"] = "sent"
        elif attempts >= MOST_ATTEMPTS or channel is None:
            values["state"] = "failed"
        else:
            values["due_at"] = now + backoff(attempts)

        def note(conn: Connection) -> None:
            sql.set_message(conn, message.id, **values)
            sql.mark_channel(conn, message.channel_id, error=error, sent=None if error else now)

        await self._write(note)

    async def send(self, channel: Channel, message: Notification) -> str:
        """Sends one message now. What went wrong, "" if nothing did."""
        return await self._loop.run_in_executor(self._threads, self._send, channel, message)

    def _send(self, channel: Channel, message: Notification) -> str:
        """The boundary to what delivers messages: a library of 150 services may raise anything."""
        with guarded(self._allowed) as guard:
            try:
                self._senders[channel.kind](channel, message)
            except Undelivered as error:
                reason = str(error).replace(channel.address, "…")
            except Exception as error:  # noqa: BLE001 - told to the channel's owner, and the message is tried again
                log.warning("a message of kind %s failed: %s", channel.kind, type(error).__name__)
                reason = f"the message could not be sent ({type(error).__name__})"
            else:
                return ""
            refused = guard.refused
        if refused:
            return (
                f"{refused} is not a public address, so nothing was sent. If it should be reached, start the server with "
                f"GRADWATCH_NOTIFY_ALLOW={refused}."
            )
        return reason

    def close(self) -> None:
        """Waits for what is being sent at this moment."""
        self._threads.shutdown(wait=True, cancel_futures=True)

    async def _write(self, fn: Callable[[Connection], None]) -> None:
        await asyncio.wrap_future(self._store.database.write(fn))
