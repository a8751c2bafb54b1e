"""The vocabulary of health: kinds, severities, incidents with their evidence, causes and remedies. Frozen values."""

from __future__ import annotations

import dataclasses
import hashlib
from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

__all__ = [
    "SEVERITIES",
    "CauseFound",
    "Evidence",
    "Finding",
    "Incident",
    "Kind",
    "Origin",
    "Remedy",
    "Severity",
    "Share",
    "from_plain",
    "incident_id",
    "worse",
]

Severity: TypeAlias = Literal["info", "warning", "critical"]
Kind: TypeAlias = Literal[
    "exploding",
    "spike",
    "vanishing",
    "nonfinite",
    "diverging",
    "oscillating",
    "dead",
    "saturated",
    "bad_init",
    "stalled",
    "overfitting",
    "clip_too_tight",
    "disconnected",
    "accumulating",
    "loss_scale",
    "bad_rank",
    "stopped",
]
SEVERITIES: Final[tuple[Severity, ...]] = ("info", "warning", "critical")


def worse(one: Severity, other: Severity) -> Severity:
    """The graver of two severities."""
    return one if SEVERITIES.index(one) >= SEVERITIES.index(other) else other


@dataclass(frozen=True, slots=True)
class Evidence:
    """One observation that speaks for an incident: a plain sentence and the numbers in it."""

    text: str
    numbers: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Share:
    """How much of the squared gradient norm one tensor held at the incident."""

    name: str
    share: float


@dataclass(frozen=True, slots=True, kw_only=True)
class Origin:
    """Where an incident began.

    ``where`` is "tensor", "input", "weights", "loss", "depth" (a trend over layers), "model" (all at once) or "".
    ``followers`` are (tensor name, first step) in the order in which they followed, at most 12; ``followed`` counts all.
    """

    step: int
    where: str = ""
    tensor: str = ""
    module: str = ""
    followers: tuple[tuple[str, int], ...] = ()
    followed: int = 0


@dataclass(frozen=True, slots=True, kw_only=True)
class Remedy:
    """What to try: a sentence, the value computed from this run (None when there is none) and a line to paste."""

    key: str
    text: str
    value: float | None = None
    code: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class CauseFound:
    """A candidate cause with its confidence (0-1), what speaks for it, what against, and its remedies."""

    key: str
    label: str
    confidence: float
    certainty: Literal["low", "medium", "high"]
    supporting: tuple[str, ...] = ()
    contradicting: tuple[str, ...] = ()
    remedies: tuple[Remedy, ...] = ()


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """What a detector says at one step while its condition holds. ``step`` is the onset as far as it can tell."""

    detector: str
    kind: Kind
    severity: Severity
    step: int
    group: str = ""
    tensors: tuple[int, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    origin: Origin | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Incident:
    """One thing that is wrong, or worth knowing, from ``opened_step`` on. A later snapshot with the same ``id`` replaces it.

    ``first_step`` is where it began as far as can be told, ``opened_step`` the step at which it was said, and
    ``warned_step`` the step at which it first was graver than info (None: never).
    ``merged_into`` is the id of the incident that this one turned out to be part of: hide it then. ``caused_by`` is the
    id of an earlier incident that explains this one. ``causes`` are the best three, empty when nothing fits ("unsure").
    """

    id: str
    kind: Kind
    severity: Severity
    sentence: str
    opened_step: int
    opened_time: float
    first_step: int
    group: str = ""
    warned_step: int | None = None
    closed_step: int | None = None
    closed_time: float | None = None
    origin: Origin
    shares: tuple[Share, ...] = ()
    detectors: tuple[str, ...] = ()
    evidence: tuple[Evidence, ...] = ()
    causes: tuple[CauseFound, ...] = ()
    unsure: bool = False
    caused_by: str = ""
    merged_into: str = ""
    help: str = ""

    @property
    def open(self) -> bool:
        """Whether it still goes on."""
        return self.closed_step is None

    @property
    def remedies(self) -> tuple[Remedy, ...]:
        """What to try, best first: the remedies of the causes in their order, each once."""
        found: dict[str, Remedy] = {}
        for cause in self.causes:
            for remedy in cause.remedies:
                found.setdefault(remedy.key, remedy)
        return tuple(found.values())


def incident_id(run: str, kind: str, group: str, first_step: int) -> str:
    """The deterministic id: the same run, kind, group and first step give the same 16 hex digits."""
    text = "\0".join((run, kind, group, str(first_step)))
    return hashlib.sha256(text.encode()).hexdigest()[:16]


def from_plain(plain: dict[str, Any]) -> Incident:
    """The inverse of ``dataclasses.asdict`` (tuples may have become lists on the way through JSON)."""
    values = {f.name: plain[f.name] for f in dataclasses.fields(Incident)}
    origin = dict(plain["origin"])
    origin["followers"] = tuple((str(name), int(step)) for name, step in origin["followers"])
    values["origin"] = Origin(**origin)
    values["shares"] = tuple(Share(**item) for item in plain["shares"])
    values["evidence"] = tuple(Evidence(**item) for item in plain["evidence"])
    values["detectors"] = tuple(plain["detectors"])
    values["causes"] = tuple(_cause(item) for item in plain["causes"])
    return Incident(**values)


def _cause(plain: dict[str, Any]) -> CauseFound:
    values = dict(plain)
    values["supporting"] = tuple(plain["supporting"])
    values["contradicting"] = tuple(plain["contradicting"])
    values["remedies"] = tuple(Remedy(**item) for item in plain["remedies"])
    return CauseFound(**values)
