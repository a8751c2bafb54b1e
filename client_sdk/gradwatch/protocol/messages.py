"""What the two sides say to each other: one frozen dataclass per kind of message.

*Records* (``Schema``, ``Batch``, ``Mark``, ``Lost``, ``Bye``) carry a sequence number that starts at 0 for each
stream and rises by one; the server applies a record only when ``seq`` is the next one, and acknowledges it after a
durable commit. Everything else is unsequenced.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Final, Literal, TypeAlias

import numpy as np
import numpy.typing as npt

PROTOCOL_VERSION: Final = 1
OLDEST_VERSION: Final = 1
"""The oldest version that a server of this release takes: that of clients two minor releases back."""

Scope: TypeAlias = Literal["run", "group", "tensor", "histogram", "module", "rank"]
Kind: TypeAlias = Literal["weight", "bias", "norm", "embedding", "other"]
EndState: TypeAlias = Literal["finished", "failed", "killed", "preempted"]


@dataclass(frozen=True, kw_only=True, slots=True)
class Tensor:
    """One named parameter, as declared in a :class:`Schema`.

    ``depth`` is its place in forward order (0 = nearest the input), ``module`` the path of its module,
    ``fan_in`` and ``init_std`` are None where they mean nothing, ``optimizer`` and ``group`` are indexes or -1 when
    the tensor is in no optimizer. ``shard`` of ``shards`` and ``replica`` say which part of a distributed tensor this
    rank holds.
    """

    name: str
    shape: tuple[int, ...] = ()
    numel: int = 0
    dtype: str = "float32"
    depth: int = 0
    module: str = ""
    kind: Kind = "other"
    fan_in: int | None = None
    init_std: float | None = None
    optimizer: int = -1
    group: int = -1
    sparse: bool = False
    trainable: bool = True
    shard: int = 0
    shards: int = 1
    replica: int = 0


@dataclass(frozen=True, kw_only=True, slots=True)
class Statistic:
    """One declared column block: ``width`` numbers per step.

    ``scope`` says what a column is (``tensor``: column *i* is tensor *i* of the schema; ``histogram``: 48 columns for each
    tensor, see :mod:`.histogram`; ``run``: width 1, or one per parameter group for ``lr``). ``dtype`` is ``f4`` or ``f8``. ``cadence`` is every how many steps it is sampled,
    0 for irregular. ``logged`` marks scalars that the user logged, whose name may be anything.
    """

    name: str
    scope: Scope
    width: int = 1
    dtype: Literal["f4", "f8"] = "f4"
    cadence: int = 1
    logged: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Hello:
    """The client's first message after the challenge: who it is and what it is about to send.

    ``parts``: each rank sends what it holds, and the server merges them; otherwise rank 0 sends the run.

    ``late`` says that the records come from a spool and not from the process that made them: a segment that the server
    does not know yet then takes its place by ``started_at``, otherwise it is the newest whatever the clocks say.
    """

    run_id: str
    run_key: str
    project: str
    name: str
    stream: str
    segment: str
    start_step: int = 0
    started_at: float = 0.0
    rank: int = 0
    world_size: int = 1
    parts: bool = False
    version: int = PROTOCOL_VERSION
    client: str = ""
    proof: str = ""
    optimizers: tuple[dict[str, Any], ...] = ()
    context: dict[str, Any] = field(default_factory=dict)
    late: bool = False


@dataclass(frozen=True, kw_only=True, slots=True)
class Schema:
    """Declares tensors and statistics for the batches that name its ``id``. ``tensors`` None means "as before"."""

    seq: int
    id: int
    statistics: tuple[Statistic, ...]
    tensors: tuple[Tensor, ...] | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Block:
    """Values of one statistic at ``n`` steps.

    ``steps`` and ``times`` (Unix seconds) are float64 ``[n]``, ``values`` float32 or float64 ``[n, width]``.
    ``present`` is bool ``[n, width]``, or None when all values are there: absent (no gradient this step) is neither
    zero nor NaN, and an absent value is stored as NaN underneath.
    """

    statistic: int
    steps: npt.NDArray[np.float64]
    times: npt.NDArray[np.float64]
    values: npt.NDArray[Any]
    present: npt.NDArray[np.bool_] | None = None


@dataclass(frozen=True, kw_only=True, slots=True, eq=False)
class Batch:
    """Frames sent together. Blocks that share their step axis (the same array objects) share it on the wire."""

    seq: int
    schema: int
    blocks: tuple[Block, ...]


FLIGHT_MARK: Final = "flight"
"""Kind of the marks that hold which samples a rank saw. They are private: no list of marks and no event shows them."""


@dataclass(frozen=True, kw_only=True, slots=True)
class Mark:
    """Something worth a glyph on the timeline: ``kind`` such as "checkpoint", "note", "phase", "restart", "lr"."""

    seq: int
    step: int
    time: float
    kind: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Lost:
    """Frames of steps ``from_step``..``to_step`` (inclusive) that will never arrive, and why."""

    seq: int
    from_step: int
    to_step: int
    frames: int
    reason: str


@dataclass(frozen=True, kw_only=True, slots=True)
class Bye:
    """The last record of a stream: how the process ended. ``error`` holds exception type and message if it failed."""

    seq: int
    state: EndState
    time: float
    reason: str = ""
    error: dict[str, Any] | None = None


@dataclass(frozen=True, kw_only=True, slots=True)
class Challenge:
    """Proof of a shared secret before anything is said: nonces both ways, then HMACs (see :mod:`.auth`)."""

    nonce: str
    key_id: str = ""
    proof: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Welcome:
    """The server's answer to Hello: the next sequence number it expects, and where the run can be seen."""

    next_seq: int
    version: int = PROTOCOL_VERSION
    instance: str = ""
    run_url: str = ""
    server: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Ack:
    """Every record below ``next_seq`` is durably stored."""

    next_seq: int


@dataclass(frozen=True, kw_only=True, slots=True)
class Heartbeat:
    """Sent by the sender thread every few seconds, however long a step takes; ``cost`` is the price of watching."""

    time: float
    step: int
    cost: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Error:
    """A sentence for the person at the other end. ``fatal``: do not reconnect. ``code`` is a stable word."""

    code: str
    message: str
    fatal: bool = True


@dataclass(frozen=True, kw_only=True, slots=True)
class Incident:
    """Server to client: a health incident opened, changed or closed (for `StopOn` and adaptive clipping)."""

    id: str
    kind: str
    severity: str
    step: int
    open: bool = True
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class Command:
    """Reserved for a later version: the server asks the script to act."""

    id: str
    kind: str
    data: dict[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, kw_only=True, slots=True)
class CommandResult:
    """Reserved for a later version: what came of a command."""

    id: str
    ok: bool
    message: str = ""


Record: TypeAlias = Schema | Batch | Mark | Lost | Bye
Message: TypeAlias = (
    Record | Hello | Challenge | Welcome | Ack | Heartbeat | Error | Incident | Command | CommandResult
)
