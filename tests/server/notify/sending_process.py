"""A server's outbox in a process of its own, to be killed.

``python -m tests.server.notify.sending_process FOLDER URL queue|fire|later``: ``queue`` has an alert fire and leaves its message in
the outbox, ``fire`` sends it too, ``later`` is a restart a day after. Says ``noted`` or ``idle`` when there is nothing to do.
"""

from __future__ import annotations

import asyncio
import sys
from pathlib import Path

from gradwatch.protocol import Hello
from gradwatch_server.models import Alert, Channel
from gradwatch_server.notify.courier import Courier
from gradwatch_server.notify.guard import allowed_networks
from gradwatch_server.store import Store
from gradwatch_server.store import notify_queries as sql

WAIT_S = 30.0
NOW = 1_700_000_000.0
ALERT = Alert(
    id="alert",
    rule_id="rule",
    run_id="run-1",
    rule_name="hot",
    severity="warning",
    statistic="loss",
    condition="above",
    threshold=1.0,
    opened_step=3,
    opened_time=NOW,
    sentence="The loss is above 1 since step 3.",
)


async def work(folder: Path, url: str, mode: str) -> None:
    """Does what ``mode`` says, and waits for the end of its input."""
    store = Store.open(str(folder / "gradwatch.db"))
    now = NOW + (86_400.0 if mode == "later" else 0.0)
    courier = Courier(
        store,
        lambda: now,
        link=lambda: "http://lab.example",
        rule_of=lambda _: None,
        allowed=allowed_networks(["127.0.0.1"]),
    )
    if mode != "later":
        channel = Channel(id="ops", name="ops", kind="webhook", address=url, created_at=NOW, updated_at=NOW)
        hello = Hello(run_id="run-1", run_key="k", project="p", name="n", stream="s", segment="g")
        store.open_stream(hello, now=NOW).result(WAIT_S)
        store.database.write(lambda conn: sql.save_channel(conn, channel)).result(WAIT_S)
        store.database.write(lambda conn: courier.queue(conn, "opened", ALERT)).result(WAIT_S)
    if mode != "queue":
        while await courier.deliver():
            pass
    print("idle" if mode == "later" else "noted", flush=True)
    await asyncio.to_thread(sys.stdin.read)


if __name__ == "__main__":
    asyncio.run(work(Path(sys.argv[1]), sys.argv[2], sys.argv[3]))
