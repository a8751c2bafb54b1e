"""``gradwatch.watch``: the composition root. Everything is checked here, before step 0."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from . import __version__, context, local
from .config import Config
from .connection import Connection
from .console import Console, in_notebook
from .errors import ConfigError
from .exits import EXITS
from .journal import Journal
from .links import RunLinks
from .names import run_id, run_key, run_name
from .outbox import Outbox
from .packer import Packer
from .protocol import Hello
from .protocol.messages import Incident
from .run import NullRun, Run, read_number
from .sender import Sender, SenderThread
from .shield import Shield
from .spool import Spool
from .transport import Transport, WebSocketTransport
from .waiter import Waiter

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from .torch_.capture import Capture

__all__ = ["watch"]


def watch(
    model: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module] | None = None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    *,
    project: str | None = None,
    name: str | None = None,
    config: Any = None,
    include: Sequence[str] = (),
    exclude: Sequence[str] = (),
    every: int = 1,
    start_step: int = 0,
    budget: float = 0.01,
    mode: str | None = None,
    server: str | None = None,
    token: str | None = None,
    autostart: bool | None = None,
    transport: Transport | None = None,
) -> Run:
    """Watches the gradients of ``model`` from the next optimizer step on, and prints the link of the live page.

    Args:
        model: one model, several (a GAN: ``[generator, discriminator]``, or a dict to name them), or None for a run that
            is told its steps with :meth:`Run.record`.
        optimizer: only needed when it cannot be found by itself: by default every optimizer that steps one of the model's
            parameters belongs to it.
        project: runs are listed by project (``GRADWATCH_PROJECT``).
        name: a short name; made up if not given.
        config: hyperparameters to show with the run: a dict, Namespace, dataclass, OmegaConf or Hugging Face arguments.
        include: watch only tensors that match one of these patterns, such as ``"blocks.*.weight"``.
        exclude: leave out tensors that match one of these.
        every: measure every this many steps.
        start_step: number of the next optimizer step, for a run that goes on from a checkpoint.
        budget: share of the step time that sampled statistics may take.
        mode: ``online``, ``offline`` (to disk only) or ``disabled`` (``GRADWATCH_MODE``).
        server: address of the server (``GRADWATCH_SERVER``); default: the local one.
        token: what the server knows you by (``GRADWATCH_TOKEN``).
        autostart: whether a local server is started if none runs; by default only in a terminal or notebook.
        transport: how to reach the server, for tests.

    Raises:
        ConfigError: (a ValueError) an argument or environment variable that cannot be used. Nothing raises later.
    """
    settings = Config.build(
        os.environ, project=project, name=name, mode=mode, server=server, token=token, autostart=autostart
    )
    if isinstance(start_step, bool) or not isinstance(start_step, int) or start_step < 0:
        raise ConfigError(f"start_step= must be a whole number from 0 on, not {start_step!r}")
    random = os.urandom
    label = settings.name or run_name(random)
    if settings.mode == "disabled" or int(os.environ.get("RANK") or 0) > 0:
        return NullRun(name=label, project=settings.project)
    console = Console()
    hello = Hello(
        run_id=run_id(random),
        run_key=run_key(random),
        project=settings.project,
        name=label,
        stream=run_id(random),
        segment=run_id(random),
        start_step=start_step,
        started_at=time.time(),
        client=f"gradwatch {__version__}",
        context=context.collect(config, os.environ, sys.argv),
    )
    parts = _Parts.make(settings, hello, console, transport)
    if model is not None:
        parts.capture(model, optimizer, include, exclude, every, start_step, budget)
    return parts.start()


@dataclasses.dataclass(slots=True)
class _Parts:
    """What a run is made of, before it starts."""

    settings: Config
    hello: Hello
    console: Console
    links: RunLinks
    outbox: Outbox
    shield: Shield
    transport: Transport | None
    captured: Capture | None = None
    run: Run | None = None

    @classmethod
    def make(cls, settings: Config, hello: Hello, console: Console, transport: Transport | None) -> _Parts:
        links = RunLinks(hello.run_id, settings, os.environ, settings.directory / "spool")
        parts = cls(
            settings=settings,
            hello=hello,
            console=console,
            links=links,
            outbox=Outbox(),
            shield=Shield(console.tell),
            transport=None if settings.mode == "offline" else transport or WebSocketTransport(links.locate),
        )
        parts.shield = Shield(console.tell, on_trip=parts.trip)
        return parts

    def trip(self) -> None:
        """The shield has had enough."""
        if self.run is not None:
            self.run.trip()

    def incident(self, incident: Incident) -> None:
        """The server found something."""
        if self.run is not None:
            self.run.on_incident(incident)

    def capture(
        self,
        model: Any,
        optimizer: Any,
        include: Sequence[str],
        exclude: Sequence[str],
        every: int,
        start_step: int,
        budget: float,
    ) -> None:
        """Finds the parameters and checks them; nothing is attached yet."""
        from .torch_.capture import Capture

        self.captured = Capture(
            list(model) if isinstance(model, Sequence) else [model],
            optimizers=None
            if optimizer is None
            else list(optimizer)
            if isinstance(optimizer, Sequence)
            else [optimizer],
            include=include,
            exclude=exclude,
            every=every,
            start_step=start_step,
            budget=budget,
            shield=self.shield,
            on_frame=self.outbox.put,
            on_schema=self.outbox.declare,
        )

    def start(self) -> Run:
        """Attaches the hooks, starts the thread, prints the link."""
        captured = self.captured
        if captured is not None:
            self.hello = _with_optimizers(self.hello, captured.describe_optimizers())
        thread = self._thread(captured.cost if captured is not None else dict)
        run = Run(
            id=self.hello.run_id,
            name=self.hello.name,
            project=self.hello.project,
            outbox=self.outbox,
            thread=thread,
            shield=self.shield,
            links=self.links,
            console=self.console,
            finish_timeout=self.settings.finish_timeout,
            read=_reader(),
        )
        self.run = run
        if captured is not None:
            captured.attach()
            run.attach(captured)
        self._find_server()
        thread.start()
        EXITS.watch(run)
        with self.shield.guard("printing the link"):
            self.links.prologue(self.console)
        return run

    def _thread(self, cost: Callable[[], dict[str, float]]) -> SenderThread:
        waiter = Waiter()
        self.outbox.wake = waiter.wake
        folder = self.settings.directory / "spool" / f"{self.hello.run_id}-{self.hello.stream}"
        connection = None
        if self.transport is not None:
            connection = Connection(self.transport, self.hello, wake=waiter.wake)
        sender = Sender(
            outbox=self.outbox,
            packer=Packer(),
            journal=Journal(_spool_of(folder, self.hello, self.settings.spool_limit), tell=self.console.tell),
            connection=connection,
            cost=cost,
            swallowed=lambda: sum(self.shield.counts.values()),
            tell=self.console.tell,
            on_open=self.links.opened,
            on_incident=self.incident,
        )
        return SenderThread(sender, waiter, self.shield)

    def _find_server(self) -> None:
        """A local server, started if that is wanted; never waits longer than a few seconds."""
        settings = self.settings
        if (
            settings.mode != "online"
            or settings.server
            or isinstance(self.transport, WebSocketTransport) is False
        ):
            return
        with self.shield.guard("looking for a local server"):
            server = local.find(settings.directory)
            wanted = settings.autostart if settings.autostart is not None else _is_interactive()
            if server is None and wanted and local.server_installed():
                server = local.start(settings.directory)
                if server is None:
                    self.console.tell(
                        f"a local server did not start in time; see {settings.directory / 'log' / 'server.log'}"
                    )
            if server is not None:
                self.links.use(server)


def _spool_of(folder: Path, hello: Hello, limit: int) -> Callable[[], Spool]:
    return lambda: Spool(folder, hello, limit=limit)


def _with_optimizers(hello: Hello, optimizers: tuple[dict[str, Any], ...]) -> Hello:
    return dataclasses.replace(hello, optimizers=optimizers)


def _is_interactive() -> bool:
    return in_notebook() or (sys.stdin is not None and sys.stdin.isatty())


def _reader() -> Callable[[Any], float | Callable[[], float] | None]:
    """Tensors need torch to be read without a sync; where it is not imported there are none."""
    if "torch" not in sys.modules:
        return read_number
    from .torch_.scalars import defer

    return defer
