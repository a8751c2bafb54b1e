"""Other trackers at work in this process: a run takes their run's name and settings, and writes its link into it.

Only what the script has imported itself is looked at: nothing is imported here, and nothing of theirs is touched but the
place for the link.
"""

from __future__ import annotations

import gc
import os
import sys
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, TypeAlias

from .shield import Shield

__all__ = ["LABEL", "Neighbour", "Neighbours", "active"]

LABEL: Final = "gradwatch"
"""What the link is called in the other tracker."""


@dataclass(frozen=True, slots=True)
class Neighbour:
    """A run of another tracker. ``write`` puts a link into it."""

    tracker: str
    name: str
    write: Callable[[str], None]
    config: Mapping[str, Any] = field(default_factory=dict)
    url: str = ""


class Neighbours:
    """The runs of other trackers, the more telling ones first."""

    def __init__(self, found: list[Neighbour]) -> None:
        self._found = found
        self._told = False

    @property
    def name(self) -> str:
        """The name of the first that has one, "" if there is none."""
        return next((one.name for one in self._found if one.name), "")

    @property
    def config(self) -> Mapping[str, Any] | None:
        """The settings of the first that has some."""
        return next((one.config for one in self._found if one.config), None)

    def describe(self) -> list[dict[str, str]]:
        """Which they are, as plain JSON for the run's page."""
        return [{"tracker": one.tracker, "name": one.name, "url": one.url} for one in self._found]

    def tell(self, url: str, shield: Shield) -> None:
        """Writes our link into each of them; only the first address counts, and "" is none."""
        if not url or self._told:
            return
        self._told = True
        for one in self._found:
            with shield.guard(f"writing the link into {one.tracker}"):
                one.write(url)


Probe: TypeAlias = "Callable[[Any], Neighbour | None]"


def active(modules: Mapping[str, Any] | None = None) -> Neighbours:
    """The runs that are open now. One that cannot be read is left out."""
    loaded = sys.modules if modules is None else modules
    shield = Shield(lambda text: None, limit=1_000)
    found: list[Neighbour] = []
    for name, probe in _PROBES.items():
        module = loaded.get(name)
        if module is not None:
            with shield.guard(f"looking at {name}"):
                neighbour = probe(module)
                if neighbour is not None:
                    found.append(neighbour)
    return Neighbours(found)


def _wandb(module: Any) -> Neighbour | None:
    run = module.run
    if run is None:
        return None

    def write(url: str) -> None:
        run.summary[LABEL] = url

    # Settings that begin with an underscore are the tracker's own notes.
    config = {str(key): value for key, value in dict(run.config).items() if not str(key).startswith("_")}
    return Neighbour("wandb", run.name or "", write, config, run.url or "")


def _mlflow(module: Any) -> Neighbour | None:
    run = module.active_run()
    if run is None:
        return None
    client, run_id = module.MlflowClient(), run.info.run_id
    # The active run is a picture of its beginning: parameters logged since then are with the tracking server.
    params = dict(client.get_run(run_id).data.params)
    return Neighbour(
        "mlflow", run.info.run_name or "", lambda url: client.set_tag(run_id, LABEL, url), params
    )


def _trackio(module: Any) -> Neighbour | None:
    run = module.current_run.get()
    if run is None:
        return None

    def write(url: str) -> None:
        # It is sent along with the first values logged.
        run.config[LABEL] = url

    config = {key: value for key, value in dict(run.config or {}).items() if not key.startswith("_")}
    return Neighbour("trackio", run.name or "", write, config)


def _tensorboard(module: Any) -> Neighbour | None:
    """A writer registers nowhere, but instances refer to their class. The one with the youngest folder counts."""
    kind = module.SummaryWriter
    writers = [
        one
        for one in gc.get_referrers(kind)
        if type(one) is kind and getattr(one, "all_writers", None) is not None
    ]
    if not writers:
        return None
    writer = max(writers, key=lambda one: os.stat(one.log_dir).st_mtime_ns)

    def write(url: str) -> None:
        writer.add_text(LABEL, url, 0)

    return Neighbour("tensorboard", os.path.basename(os.path.normpath(writer.log_dir)), write)


_PROBES: Final[Mapping[str, Probe]] = {
    "wandb": _wandb,
    "mlflow": _mlflow,
    "trackio.context_vars": _trackio,
    "torch.utils.tensorboard.writer": _tensorboard,
    "tensorboardX.writer": _tensorboard,
}
"""How each tracker is asked, by the module that knows its runs."""
