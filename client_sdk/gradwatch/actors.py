"""Who acts on a run: what it logs and what is found in it is passed on to them, harmlessly."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Protocol

from .protocol.messages import Incident
from .shield import Shield

__all__ = ["Actor", "Actors"]


class Actor(Protocol):
    """What a run needs of :class:`gradwatch.torch_.actions.Guard`."""

    def log(self, values: Mapping[str, Any], /) -> None:
        """What the script has logged."""

    def incident(
        self, id: str, kind: str, severity: str, reason: str, *, open: bool, cause: str = ""
    ) -> None:
        """What the health engine has found; from any thread."""

    def remove(self) -> None:
        """Acts no more; harmless the second time."""


class Actors:
    """Those of one run."""

    def __init__(self, shield: Shield) -> None:
        self._shield = shield
        self._actors: list[Actor] = []

    def __bool__(self) -> bool:
        return bool(self._actors)

    def add(self, actor: Actor) -> None:
        """One more."""
        self._actors.append(actor)

    def log(self, values: Mapping[str, Any]) -> None:
        """See :class:`Actor`."""
        for actor in self._actors:
            with self._shield.guard("acting on what is logged"):
                actor.log(values)

    def incident(self, incident: Incident) -> None:
        """See :class:`Actor`."""
        reason, cause = (str(incident.data.get(key, "")) for key in ("sentence", "caused_by"))
        for actor in self._actors:
            actor.incident(
                incident.id, incident.kind, incident.severity, reason, open=incident.open, cause=cause
            )

    def remove(self) -> None:
        """The run is over."""
        while self._actors:
            self._actors.pop().remove()
