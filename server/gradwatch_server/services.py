"""What the server is made of, put together once. Everything else gets it from ``app.state.services``."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections import OrderedDict, deque
from collections.abc import AsyncIterator, Callable, Coroutine, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol

from jinja2 import Environment

from gradwatch.errors import GradwatchError
from gradwatch.protocol import encode
from gradwatch.protocol.messages import Incident

from .alerting import Alerting
from .assets import Assets
from .config import Config
from .health_watch import HealthWatch
from .hub import Hub
from .load import Load
from .metrics import Metrics
from .notify.courier import Courier
from .notify.guard import allowed_networks
from .pipeline import Announcer, Pipeline
from .sharing import Sharing
from .store import Store, StreamHandle
from .store.retention import Limits as StoreLimits
from .store.token_queries import list_tokens
from .web.addresses import Addresses
from .web.keyring import Keyring, local_token, stable_id
from .web.rates import Rates
from .web.sessions import Codes, Nonces, Sessions

__all__ = ["Limits", "Services", "Trainers", "open_services"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Limits:
    """How many at once."""

    trainers: int = 2_000
    viewers: int = 2_000
    sign_ins_per_minute: int = 300
    """Wrong tokens, over all who try; one address has far fewer."""
    link_per_second: float = 200.0
    """Requests and views through one share link, over all who hold it,"""
    link_burst: float = 2_000.0
    """and how many at once."""


class Fenceable(Protocol):
    """A trainer's connection."""

    key_id: str
    """The name of the key it proved."""

    def fence(self, why: GradwatchError | None = None) -> None:
        """Ends it: another one has taken over, or ``why``."""

    def tell(self, text: str) -> None:
        """Sends it a message when it can."""


_MOST_NEWS: Final = 256
"""Open incidents of one run that are kept for trainers that come late."""
_MOST_RUNS: Final = 4_096
"""Runs whose open incidents are kept."""


@dataclass(slots=True)
class _News:
    """What the trainers of one segment of a run were told, by incident, as long as it is open and more than a remark."""

    segment: int
    open: dict[str, str] = field(default_factory=dict)

    def keep(self, message: Incident, text: str) -> None:
        """``text`` is ``message`` as it is sent."""
        if not message.open or message.severity == "info":
            self.open.pop(message.id, None)
        elif message.id in self.open or len(self.open) < _MOST_NEWS:
            self.open[message.id] = text


class Trainers:
    """Which connections send which run. The store says which streams are closed by newer ones; this ends their sockets."""

    def __init__(self) -> None:
        self._connections: dict[str, dict[Fenceable, StreamHandle]] = {}
        self._news: OrderedDict[str, _News] = OrderedDict()

    def enter(self, stream: StreamHandle, connection: Fenceable) -> None:
        """``connection`` sends ``stream`` from now on. Those whose stream it has closed are ended.

        It hears of what is open of its segment: of an incident that came while its network was down, or before this rank was
        there. A run that goes on in a new segment has been started again by somebody who knew.
        """
        connections = self._connections.setdefault(stream.run.id, {})
        connections[connection] = stream
        for other, older in list(connections.items()):
            if older.closed is not None:
                other.fence(older.closed)
        news = self._news.get(stream.run.id)
        if news is None or news.segment < stream.segment:
            self._news[stream.run.id] = _News(stream.segment)
        elif news.segment == stream.segment:
            for text in news.open.values():
                connection.tell(text)
        self._news.move_to_end(stream.run.id)
        while len(self._news) > _MOST_RUNS:
            self._news.popitem(last=False)

    def leave(self, stream: StreamHandle, connection: Fenceable) -> None:
        """It is gone."""
        connections = self._connections.get(stream.run.id, {})
        connections.pop(connection, None)
        if not connections:
            self._connections.pop(stream.run.id, None)

    def fence_key(self, key_id: str) -> None:
        """Ends all connections that proved this key, because it was revoked."""
        for connections in list(self._connections.values()):
            for connection in list(connections):
                if connection.key_id == key_id:
                    connection.fence()

    def fence_run(self, run_id: str) -> None:
        """Ends all connections of a run, because it was deleted."""
        self._news.pop(run_id, None)
        for connection in list(self._connections.get(run_id, {})):
            connection.fence()

    def tell(self, run_id: str, incident: Mapping[str, Any]) -> None:
        """Those who send a run hear of its incidents: a script may have asked to act on them."""
        news, connections = self._news.get(run_id), list(self._connections.get(run_id, {}))
        if news is None and not connections:
            return
        message = incident_message(incident)
        text = str(encode(message))
        if news is not None:
            news.keep(message, text)
        for connection in connections:
            connection.tell(text)

    @property
    def runs(self) -> set[str]:
        """Runs that somebody sends at this moment."""
        return set(self._connections)


@dataclass(kw_only=True, slots=True)
class Services:
    """One running server."""

    config: Config
    clock: Callable[[], float]
    token: str
    keyring: Keyring
    instance: str
    sessions: Sessions
    store: Store
    hub: Hub
    announce: Announcer
    alerting: Alerting
    courier: Courier
    health: HealthWatch
    sharing: Sharing
    pipeline: Pipeline
    trainers: Trainers
    assets: Assets
    templates: Environment
    metrics: Metrics
    addresses: Addresses
    port: int = 0
    """The port it listens on, known once it does."""
    limits: Limits = field(default_factory=Limits)
    load: Load = field(default_factory=Load)
    codes: Codes = field(default_factory=Codes)
    nonces: Nonces = field(default_factory=Nonces)
    link_rates: Rates = field(
        default_factory=lambda: Rates(per_second=Limits().link_per_second, burst=Limits().link_burst)
    )
    wrong_tokens: deque[float] = field(default_factory=deque)
    """When somebody last tried a wrong token."""
    closing: bool = False

    @property
    def link(self) -> str:
        """The address that goes into links."""
        return self.config.link(self.port or self.config.port)


@contextlib.asynccontextmanager
async def open_services(
    config: Config, templates: Environment, assets: Assets, clock: Callable[[], float] = time.time
) -> AsyncIterator[Services]:
    """Opens the store and all that stands on it; closes it again, finishing what is being written.

    Raises:
        StoreError: the database cannot be used; the sentence says why.
    """
    token = config.token or await asyncio.to_thread(local_token, config.directory)
    keyring = Keyring(token, clock, insecure_open=config.insecure_open)
    limits = StoreLimits(most_bytes=config.max_size, exact_days=config.exact_days)
    store = await asyncio.to_thread(Store.open, config.database, clock=clock, limits=limits)
    try:
        hub = Hub(await asyncio.to_thread(store.revision))
        for named in await asyncio.to_thread(store.database.read, list_tokens):
            keyring.put(named)
        announce = Announcer(store, hub)
        courier = Courier(
            store,
            clock,
            link=lambda: services.link,
            rule_of=lambda rule_id: alerting.find_rule(rule_id),
            allowed=allowed_networks(config.notify_allow),
        )
        alerting = Alerting(store, announce, clock, courier)
        trainers = Trainers()
        sharing = Sharing(store.database, clock, keyring.key)
        await asyncio.to_thread(alerting.load)
        health = HealthWatch(store, hub, _finder(announce, alerting, trainers), clock, enabled=config.health)
        pipeline = Pipeline(store, hub, announce, alerting, health, clock)
        metrics = Metrics()
        services = Services(
            config=config,
            clock=clock,
            token=token,
            keyring=keyring,
            instance=await asyncio.to_thread(stable_id, config.directory),
            sessions=Sessions(keyring.key),
            store=store,
            hub=hub,
            announce=announce,
            alerting=alerting,
            courier=courier,
            health=health,
            sharing=sharing,
            pipeline=pipeline,
            trainers=trainers,
            assets=assets,
            templates=templates,
            metrics=metrics,
            addresses=Addresses(config, metrics.refuse),
        )
        health.start()
        try:
            async with _ticking(pipeline.tick(), alerting.run(), courier.run(), services.load.watch()):
                yield services
        finally:
            services.closing = True
            await pipeline.drain()
            await asyncio.to_thread(health.stop)
            await alerting.drain()
            await asyncio.to_thread(courier.close)
            await announce.drain()
    finally:
        await asyncio.to_thread(store.close)


@contextlib.asynccontextmanager
async def _ticking(*works: Coroutine[Any, Any, None]) -> AsyncIterator[None]:
    """Runs them beside the body, and cancels them after it."""
    tasks = [asyncio.ensure_future(work) for work in works]
    try:
        yield
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


def incident_message(incident: Mapping[str, Any]) -> Incident:
    """An incident as its trainer hears it: what a script may act on, without the evidence."""
    return Incident(
        id=incident["id"],
        kind=incident["kind"],
        severity=incident["severity"],
        step=incident["first_step"],
        open=incident["closed_step"] is None and not incident["merged_into"],
        data={key: incident[key] for key in ("sentence", "opened_step", "caused_by")},
    )


def _finder(
    announce: Announcer, alerting: Alerting, trainers: Trainers
) -> Callable[[str, str | None, dict[str, Any]], None]:
    """Who hears of incidents: the pages, the rules that wait for them, and the script itself."""

    def found(kind: str, run: str | None, data: dict[str, Any]) -> None:
        announce(kind, run, data)
        if run is not None:
            alerting.incident_found(run, data)
            trainers.tell(run, data)

    return found
