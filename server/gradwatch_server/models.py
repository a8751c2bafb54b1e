"""What the server talks about: frozen, pure values. SQL rows, JSON bodies and templates are made from these.

The names are the project's vocabulary: Run, Segment, Stream, Tensor, Statistic, Rule, Instance, Transition, Alert.
Who may come in stands in :mod:`.visitors`. Times are Unix seconds, steps whole numbers.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

RunState: TypeAlias = Literal["running", "finished", "failed", "killed", "preempted", "lost"]
Severity: TypeAlias = Literal["info", "warning", "critical"]
Condition: TypeAlias = Literal[
    "above",
    "below",
    "outside",
    "nonfinite",
    "rises",
    "falls",
    "grows",
    "shrinks",
    "unusual",
    "silent",
    "incident",
]
"""What a rule waits for; one row each in :mod:`.alerts.kinds`."""
Aggregate: TypeAlias = Literal["last", "mean", "min", "max", "share"]
InstanceState: TypeAlias = Literal["normal", "pending", "firing", "recovering"]

FLAG_PRESENT: Final = 1
FLAG_NAN: Final = 2
FLAG_INF: Final = 4
FLAG_ZERO: Final = 8
"""Bits of :attr:`Series.flags`: what a bucket holds besides its finite extremes."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Run:
    """One training run. ``error``, ``context`` and ``who`` are never shown to a share link as they are."""

    id: str
    project: str
    name: str
    state: RunState
    created_at: float
    last_time: float
    """Time of the newest frame, 0 before the first."""
    last_seen: float
    """Time of the newest sign of life (frame or heartbeat), by the server's clock."""
    first_step: int = -1
    last_step: int = -1
    """Newest step, -1 before the first."""
    steps: int = 0
    steps_per_s: float = 0.0
    finished_at: float | None = None
    reason: str = ""
    error: dict[str, Any] | None = None
    context: dict[str, Any] = field(default_factory=dict)
    cost: dict[str, float] = field(default_factory=dict)
    lost_frames: int = 0
    tags: tuple[str, ...] = ()
    notes: str = ""
    who: str = ""
    """Whose account started it, "" where that was not told."""
    tensor_count: int = 0
    summary: dict[str, float] = field(default_factory=dict)
    """Newest value of run-level statistics (loss, global_grad_norm, ...) for lists."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Segment:
    """A stretch of a run between restarts; one that began later supersedes earlier ones from its ``start_step`` on.

    ``index`` counts segments as they became known: one that comes late from a spool has a higher index than its place.
    """

    run_id: str
    id: str
    index: int
    start_step: int
    started_at: float


@dataclass(frozen=True, kw_only=True, slots=True)
class TensorInfo:
    """One row of a run: a tensor by its run-wide ``index`` (names are unique in a run, schemas map onto them)."""

    index: int
    name: str
    shape: tuple[int, ...]
    numel: int
    dtype: str
    depth: int
    module: str
    kind: str
    trainable: bool = True
    optimizer: int = -1
    param_group: int = -1
    fan_in: int | None = None
    init_std: float | None = None
    sparse: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class GroupInfo:
    """A node of the module tree with at least two tensors below it: row ``index`` of group-scope statistics."""

    index: int
    path: str
    """Module path, "" for the whole model."""
    parent: int
    """Index of the enclosing group, -1 for the root."""
    tensors: tuple[int, ...]
    """Run-wide tensor indexes below it."""


@dataclass(frozen=True, kw_only=True, slots=True)
class StatisticInfo:
    """A statistic that a run has: what can be asked for as a series."""

    name: str
    scope: str
    width: int
    dtype: str
    cadence: int
    logged: bool


@dataclass(frozen=True, kw_only=True, slots=True)
class RunMark:
    """A mark on the timeline. ``revision`` rises over all runs of the database."""

    run_id: str
    revision: int
    step: int
    time: float
    kind: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class SeriesQuery:
    """Which numbers, at what zoom.

    ``rows`` are run-wide tensor (or group, or column) indexes, None for all. ``to_step`` is exclusive, None for the end.
    ``points`` is how many buckets the asker can draw; the width is the smallest power of 4 that needs no more.
    ``segment`` None joins the segments: from the start of a later segment on, it replaces the earlier ones.
    """

    statistic: str
    scope: str = "tensor"
    rows: tuple[int, ...] | None = None
    from_step: int = 0
    to_step: int | None = None
    points: int = 1000
    segment: int | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Series:
    """Buckets ``first_bucket .. first_bucket + n`` of ``width`` steps each, absolute: bucket b is steps [b*width, (b+1)*width).

    ``low``, ``high`` and ``last`` are float32 ``[rows, n]``: extremes over the finite values (NaN where there are none) and
    the newest value as it is (NaN and Inf kept). ``flags`` is uint8 ``[rows, n]`` of the FLAG bits.
    ``last_step``/``last_time`` are the newest step and time included, -1 and 0 when there is nothing.
    """

    width: int
    first_bucket: int
    low: npt.NDArray[np.float32]
    high: npt.NDArray[np.float32]
    last: npt.NDArray[np.float32]
    flags: npt.NDArray[np.uint8]
    last_step: int = -1
    last_time: float = 0.0


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Histogram:
    """A tensor's sampled gradient at one step: ``counts`` float64 ``[48]``, see :mod:`gradwatch.protocol.histogram`."""

    step: int
    time: float
    counts: npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Values:
    """Exact stored values: ``steps`` and ``times`` float64 ``[n]``, ``values`` float64 ``[n, rows]`` (absent as NaN with ``present`` False)."""

    steps: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64]
    values: npt.NDArray[np.float64]
    present: npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class StoredBlock:
    """Values of one statistic as accepted: columns are run-wide indexes. What the hub publishes and alerts judge.

    ``steps``, ``times`` float64 ``[n]``; ``values`` ``[n, width]``; ``present`` bool ``[n, width]`` or None (all there);
    ``rows`` int32 ``[width]`` maps columns to run-wide tensor indexes (identity for run and group scope).
    """

    statistic: str
    scope: str
    steps: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64]
    values: npt.NDArray[Any]
    rows: npt.NDArray[np.int32]
    present: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Rule:
    """An alert rule: when it should speak, about which series of which runs.

    ``tensors`` is a glob over tensor names, ``groups`` one over module paths; both "" for a run-level statistic.
    ``project`` is a glob over project names, ``run`` one over run ids and names ("*" for all).
    """

    id: str
    name: str
    statistic: str
    tensors: str = ""
    groups: str = ""
    project: str = "*"
    run: str = "*"
    condition: Condition = "above"
    threshold: float = 0.0
    upper: float = 0.0
    """Upper end of the band of "outside"; ``threshold`` is the lower end."""
    window: int = 1
    """Steps that are aggregated, or compared with the window before."""
    aggregate: Aggregate = "last"
    share: float = 0.5
    """Aggregate "share": the part of the window's steps that must meet the condition."""
    for_steps: int = 1
    recover_steps: int = 10
    cooldown_steps: int = 0
    """Firing again within so many steps of clearing opens the same alert again, without a new message."""
    incidents: str = "*"
    """Condition "incident": glob over kinds of incidents (exploding, nonfinite, ...)."""
    least: Severity = "warning"
    """Condition "incident": those below this severity don't count."""
    severity: Severity = "warning"
    channels: tuple[str, ...] = ()
    """Ids of the notification channels, () for all."""
    enabled: bool = True
    source: Literal["user", "default"] = "user"
    created_at: float = 0.0
    updated_at: float = 0.0
    version: int = 1
    """Rises with each edit; an edit resets the rule's instances."""

    @property
    def scope(self) -> str:
        """Scope of the series it judges."""
        return "tensor" if self.tensors else "group" if self.groups else "run"


@dataclass(frozen=True, kw_only=True, slots=True)
class Transition:
    """One change of state of a rule in a run, as the alert engine reports it."""

    rule_id: str
    run_id: str
    series: str
    """Tensor name, or "" for a run-level statistic."""
    old: InstanceState
    new: InstanceState
    step: int
    time: float
    value: float
    reason: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class RuleState:
    """A rule's instances in a run right after ``step``, so that a restart changes nothing. ``data`` is JSON of
    :mod:`.alerts.state`."""

    rule_id: str
    run_id: str
    version: int
    step: float
    data: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Alert:
    """A rule that fired in a run: one alert however many tensors are in it. Open until ``cleared_step`` is set."""

    id: str
    rule_id: str
    run_id: str
    rule_name: str
    severity: Severity
    statistic: str
    condition: Condition
    threshold: float
    opened_step: int
    opened_time: float
    cleared_step: int | None = None
    cleared_time: float | None = None
    peak: float = 0.0
    count: int = 0
    """How many series fire or fired in it."""
    worst: tuple[str, ...] = ()
    """Names of the worst few."""
    acknowledged: bool = False
    note: str = ""
    sentence: str = ""
    reason: str = ""
    """Why it closed, when the numbers are not the reason: "rule edited", "rule removed", "run ended"."""
    muted_until: float | None = None
    """No message before this time."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Channel:
    """Where messages about alerts go. ``address`` (with its secrets) and ``secret`` (which webhook bodies are signed with)
    are never shown again; alerts below ``least`` are not sent."""

    id: str
    name: str
    kind: Literal["webhook", "apprise"]
    address: str
    secret: str = ""
    least: Severity = "info"
    enabled: bool = True
    created_at: float = 0.0
    updated_at: float = 0.0
    last_sent: float | None = None
    last_error: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Notification:
    """One message to one channel, kept until it is delivered or given up. The same news to it has the same ``id``."""

    id: str
    channel_id: str
    run_id: str
    alert_id: str
    kind: Literal["fired", "cleared", "test"]
    severity: Severity
    title: str
    text: str
    link: str
    created_at: float
    due_at: float
    attempts: int = 0
    state: Literal["waiting", "sent", "failed"] = "waiting"
    error: str = ""
