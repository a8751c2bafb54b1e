"""``gradwatch.watch``: the composition root. Everything is checked here, before step 0."""

from __future__ import annotations

import dataclasses
import os
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from . import __version__, context, local, neighbours
from .both import Both
from .config import Config
from .connection import Connection, in_thread
from .console import Console, Silence, is_interactive
from .delivery import deliver_leftovers
from .exits import EXITS
from .flight import Flight
from .frames import PendingFrame
from .given import check_pace, models_in, patterns, reader, strangers
from .identity import first_step, identify
from .journal import Journal
from .links import LocalLinks, RunLinks
from .masks import private_globs
from .names import run_id, run_name
from .neighbours import Neighbours
from .notebook import CELLS
from .outbox import FramesOnly, MarkPoint, Outbox
from .packer import Packer, short_name
from .place import LOCAL_EVERY, LOCAL_NORM, Place
from .protocol import Hello, Statistic, Tensor, Welcome
from .protocol.messages import Incident
from .resources import Resources
from .run import NullRun, Run
from .sender import Sender
from .sender_thread import SenderThread
from .shield import Shield
from .spool import Spool
from .transport import Transport, WebSocketTransport
from .waiter import Waiter

if TYPE_CHECKING:
    from torch import nn
    from torch.optim import Optimizer

    from .judging import Judge
    from .torch_.activations import Activations
    from .torch_.capture import Capture
    from .torch_.local_norms import LocalNorms

__all__ = ["watch"]


def watch(
    model: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module] | None = None,
    optimizer: Optimizer | Sequence[Optimizer] | None = None,
    *,
    project: str | None = None,
    name: str | None = None,
    config: Any = None,
    private: str | Sequence[str] = (),
    include: str | Sequence[str] = (),
    exclude: str | Sequence[str] = (),
    every: int = 1,
    start_step: int | None = None,
    resume: str | None = None,
    budget: float = 0.01,
    ranks: bool = False,
    activations: bool | Sequence[str] = False,
    started_at: float | None = None,
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
        name: a short name; by default that of an active W&B, MLflow, Trackio or TensorBoard run, or a made-up one.
        config: hyperparameters to show with the run: a dict, Namespace, dataclass, OmegaConf or Hugging Face arguments;
            by default those of such a run.
        private: names or patterns of settings that share links don't show, at any depth and with all below them:
            ``("data_path", "*token*", "data.*")``. What looks like a secret, a path, a host or a person is never shown.
        include: watch only tensors that match one of these patterns, such as ``"blocks.*.weight"``.
        exclude: leave out tensors that match one of these.
        every: measure every this many steps.
        start_step: number of the next optimizer step, for a run that goes on from a checkpoint. Default: 0, or with
            ``resume`` what the state of the given ``optimizer`` says.
        resume: goes on in the same run as a new segment: ``"auto"`` for the run of this job of the scheduler (Slurm, PBS,
            LSF, Grid Engine, torchrun) when it is started again, or a run's id (``GRADWATCH_RESUME``).
        budget: share of the step time that watching may take. The norms of every step come first; sampled statistics are
            taken more rarely to stay below it. 0 takes none.
        ranks: every process of a distributed run sends each step. By default those that hold shards do (FSDP2, tensor
            parallel); of equal ones (DDP) the first does, the others send their own norms every 50 steps. What is logged
            and marked is taken from the first.
        activations: on sampled steps, mean, RMS, zero share and saturation of the outputs of every leaf module, and the
            largest attention logits; or of the modules that match these globs.
        started_at: when it began (Unix seconds), for a run that is told afterwards.
        mode: ``online``, ``offline`` (to disk only), ``local`` (judged in this process: no server, nothing on disk; see
            ``run.incidents`` and ``run.health``) or ``disabled`` (``GRADWATCH_MODE``).
        server: address of the server (``GRADWATCH_SERVER``); default: the local one.
        token: what the server knows you by (``GRADWATCH_TOKEN``).
        autostart: whether a local server is started if none runs; by default only in a terminal or notebook.
        transport: how to reach the server, for tests.

    Raises:
        ConfigError: (a ValueError) an argument or environment variable that cannot be used. Nothing raises later.
    """
    settings = Config.build(
        os.environ,
        project=project,
        name=name,
        mode=mode,
        server=server,
        token=token,
        autostart=autostart,
        resume=resume,
    )
    check_pace(every, budget)
    hidden = private_globs(private)
    first = first_step(start_step, optimizer if settings.resume else None)
    beside = neighbours.active()
    CELLS.finish_earlier(models := models_in(model))
    name = settings.name or short_name(beside.name)
    place = _place(model, ranks) if settings.mode != "disabled" else None
    shared = _identity(place, settings, name, first)
    if place is None or shared is None:
        return NullRun(name=name or run_name(os.urandom), project=settings.project)
    hello = Hello(
        **shared,
        stream=run_id(os.urandom),
        start_step=first,
        started_at=time.time() if started_at is None else started_at,
        rank=place.rank,
        world_size=place.world,
        parts=place.parts,
        client=f"gradwatch {__version__}",
        context=context.collect(config, os.environ, sys.argv, beside, hidden),
    )
    parts = _Parts(settings, hello, place, transport, beside, live=started_at is None)
    if model is not None:
        parts.capture(model, optimizer, include, exclude, every, first, budget)
    parts.activations(models, activations, budget)
    CELLS.keep(run := parts.start(), models)
    return run


def _place(model: Any, everybody: bool) -> Place | None:
    """Which of the training processes this is, None if it is watched by another one."""
    if model is not None and "torch.distributed" in sys.modules:
        from .torch_ import ranks

        place = ranks.place_of(models_in(model), everybody=everybody)
        if place is None or place.world > 1:
            return place
    return Place() if int(os.environ.get("RANK") or 0) == 0 else None


def _identity(place: Place | None, settings: Config, name: str, first: int) -> Mapping[str, Any] | None:
    """Ids, key and names of the run, the same on all ranks.

    Raises:
        ConfigError: the run that is to go on cannot be found.
    """

    def make() -> dict[str, str]:
        found = identify(
            settings.resume,
            directory=settings.directory if settings.mode in ("online", "offline") else None,
            environ=os.environ,
            about=[settings.project, settings.name, *sys.argv],
        )
        if found.resumes:
            Console().tell(f"{found.resumes} is run {found.id}, from step {first} on")
        ids = {"run_id": found.id, "run_key": found.key, "segment": run_id(os.urandom)}
        return {**ids, "project": settings.project, "name": name or found.name}

    if place is None or place.world == 1:
        return make() if place is not None else None
    from .torch_ import ranks

    return ranks.share(place, make)


class _Parts:
    """What a run is made of, and how the parts hang together."""

    def __init__(
        self,
        settings: Config,
        hello: Hello,
        place: Place,
        transport: Transport | None,
        beside: Neighbours,
        *,
        live: bool,
    ) -> None:
        self.settings = settings
        self.place = place
        self._beside = beside if place.rank == 0 else Neighbours([])
        self.console = Console() if place.rank == 0 else Silence()
        self.links = RunLinks(hello.run_id, settings, os.environ, settings.directory / "spool")
        self.outbox = Outbox() if place.rank == 0 else FramesOnly()
        self.shield = Shield(self.console.tell, on_trip=self._trip)
        self._hello = hello
        self._own_transport = transport is None
        self._transport = transport or WebSocketTransport(self.links.locate)
        self._captured: Capture | None = None
        self._local: LocalNorms | None = None
        self._outputs: Activations | None = None
        self._optimizers: tuple[dict[str, Any], ...] = ()
        self._run: Run | None = None
        self._live = live
        """Whether it is told as it happens: the machine of what is told afterwards is another one."""

    def capture(
        self,
        model: nn.Module | Sequence[nn.Module] | Mapping[str, nn.Module],
        optimizer: Optimizer | Sequence[Optimizer] | None,
        include: str | Sequence[str],
        exclude: str | Sequence[str],
        every: int,
        start_step: int,
        budget: float,
    ) -> None:
        """Finds the parameters and checks them; nothing is attached yet."""
        from .torch_.capture import Capture
        from .torch_.engines import engine_of

        optimizers = (
            [optimizer] if optimizer is not None and not isinstance(optimizer, Sequence) else optimizer
        )
        models = model if isinstance(model, (Sequence, Mapping)) else [model]
        follows = self.place.replicated and self.place.rank > 0
        self._captured = Capture(
            models,
            optimizers=optimizers,
            include=patterns(include, "include"),
            exclude=patterns(exclude, "exclude"),
            every=LOCAL_EVERY if follows else every,
            start_step=start_step,
            budget=0.0 if follows else budget,
            shield=self.shield,
            on_frame=self._frames_in(models_in(model), only=follows),
            on_schema=self._declare,
        )
        watched, chosen = models_in(model), optimizers or ()
        if words := engine_of([*watched, *chosen]) or strangers(watched, chosen):
            self.console.tell(words)
        self._optimizers = self._captured.describe_optimizers()

    def _frames_in(self, models: Sequence[nn.Module], *, only: bool) -> Callable[[PendingFrame], None]:
        """Where capture puts frames: replicated ranks have their own norms added now and then."""
        if not self.place.replicated:
            return self.outbox.put
        from .torch_.local_norms import LocalNorms

        self._local = LocalNorms(models, self.outbox.put, wrap=self.shield.wrap, only=only)
        return self._local.put

    def start(self) -> Run:
        """Attaches the hooks, starts the thread, prints the link."""
        judge = self._make_judge() if self.settings.mode == "local" else None
        thread = self._make_thread() if judge is None else SenderThread(judge, self._waiter(), self.shield)
        self._run = run = Run(
            id=self._hello.run_id,
            name=self._hello.name,
            project=self._hello.project,
            outbox=self.outbox,
            thread=thread,
            shield=self.shield,
            links=self.links if judge is None else LocalLinks(lambda: judge.health().sentence),
            console=self.console,
            finish_timeout=self.settings.finish_timeout,
            read=reader(),
            judge=judge,
            flight=Flight(self.place.rank, self.place.world),
        )
        if self._captured is not None:
            self._captured.attach()
            run.attach(self._captured if self._local is None else Both(self._captured, self._local))
        if self._outputs is not None:
            self._outputs.follow(run)
        if judge is None:
            starting = self._find_server()
            with self.shield.guard("printing the link"):
                self.links.prologue(self.console, starting=starting)
            self._beside.tell(self.links.url, self.shield)
        thread.start()
        EXITS.watch(run)
        if self.settings.mode == "online" and self.place.rank == 0:
            with self.shield.guard("looking for undelivered runs"):
                deliver_leftovers(self.settings, self._transport, lambda: run.over, self.shield)
        return run

    def activations(self, models: Sequence[nn.Module], patterns: bool | Sequence[str], budget: float) -> None:
        """Finds the modules whose outputs are watched; nothing is attached yet."""
        if patterns and models:
            from .torch_.activations import Activations

            self._outputs = Activations(models, patterns, shield=self.shield, budget=budget)

    def _waiter(self) -> Waiter:
        waiter = Waiter()
        self.outbox.wake = waiter.wake
        return waiter

    def _make_judge(self) -> Judge:
        from .judging import Judge

        return Judge(
            outbox=self.outbox,
            packer=Packer(),
            optimizers=lambda: self._optimizers,
            run=self._hello.run_id,
            tell=self.console.tell,
            on_incident=self._incident,
            resolve=lambda frame: self.shield.attempt(frame.resolve, "putting a step together"),
        )

    def _make_thread(self) -> SenderThread:
        waiter = self._waiter()
        connection = Connection(self._transport, self._introduce, wake=waiter.wake)
        sender = Sender(
            outbox=self.outbox,
            packer=Packer(),
            journal=Journal(self._open_spool, tell=self.console.tell),
            connection=None if self.settings.mode == "offline" else connection,
            cost=self._captured.cost if self._captured is not None else dict,
            resources=Resources.beside(self._captured) if self.place.rank == 0 and self._live else None,
            swallowed=lambda: sum(self.shield.counts.values()),
            resolve=lambda frame: self.shield.attempt(frame.resolve, "putting a step together"),
            tell=self.console.tell,
            on_open=self._opened,
            on_incident=self._incident,
        )
        return SenderThread(sender, waiter, self.shield)

    def _open_spool(self) -> Spool:
        folder = self.settings.directory / "spool" / f"{self._hello.run_id}-{self._hello.stream}"
        return Spool(folder, self._introduce(), limit=self.settings.spool_limit, target=self.settings.server)

    def _introduce(self) -> Hello:
        """Who we are, with the optimizers as far as they are known by now."""
        return dataclasses.replace(self._hello, optimizers=self._optimizers)

    def _declare(self, tensors: tuple[Tensor, ...], statistics: tuple[Statistic, ...]) -> None:
        """New columns. They come with a new optimizer too, which the server learns as a mark: Hello was said before."""
        self.outbox.declare(tensors, (*statistics, LOCAL_NORM) if self.place.replicated else statistics)
        if self._captured is None:
            return
        optimizers = self._captured.describe_optimizers()
        if optimizers != self._optimizers:
            self._optimizers = optimizers
            point = MarkPoint(
                self._captured.next_step, time.time(), "optimizers", {"optimizers": list(optimizers)}
            )
            self.outbox.put_mark(point)

    def _opened(self, welcome: Welcome) -> None:
        self.links.opened(welcome)
        if words := self.links.late_link():
            self.console.show(words)
            # The other tracker may wait for its server, which this thread must not.
            in_thread(lambda: self._beside.tell(self.links.url, self.shield))

    def _trip(self) -> None:
        if self._run is not None:
            self._run.trip()

    def _incident(self, incident: Incident) -> None:
        if self._run is not None:
            self._run.on_incident(incident)

    def _find_server(self) -> bool:
        """Uses the local server, started if that is wanted; waits a few seconds at most. Whether one is still starting."""
        settings = self.settings
        if settings.mode != "online" or settings.server or not self._own_transport:
            return False
        with self.shield.guard("looking for a local server"):
            server = local.find(settings.directory)
            wanted = settings.autostart if settings.autostart is not None else is_interactive()
            wanted = wanted and self.place.rank == 0
            may_start = server is None and wanted and local.server_installed()
            if may_start:
                server = local.start(settings.directory)
            if server is not None:
                self.links.use(server)
            return may_start and server is None
        return False
