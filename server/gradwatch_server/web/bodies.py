"""The bodies of the API: what it takes and gives. The OpenAPI schema is made from these."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "CodeReply",
    "ErrorReply",
    "GroupOut",
    "HistogramReply",
    "MarksReply",
    "RunDetailReply",
    "RunOut",
    "RunPatch",
    "RunsReply",
    "SeriesReply",
    "SessionStart",
    "TensorsReply",
    "ValuesReply",
]

Number = Annotated[float | str, Field(description='A number, or "NaN", "Infinity", "-Infinity".')]


class _In(BaseModel):
    model_config = ConfigDict(extra="forbid")


class ErrorOut(BaseModel):
    """Why something was refused."""

    code: str = Field(description="A stable word.")
    message: str = Field(description="A sentence for people.")
    fields: dict[str, str] = Field(
        default_factory=dict, description="What is wrong with which field of a form."
    )


class ErrorReply(BaseModel):
    """Every refusal looks like this."""

    error: ErrorOut


class RunOut(BaseModel):
    """One training run. To share links, error, reason, notes and who are empty, and of context there is only what is not
    private in its config."""

    id: str
    project: str
    name: str
    state: str = Field(description="running, finished, failed, killed, preempted or lost")
    created_at: float
    last_time: float = Field(description="Time of the newest frame, 0 before the first.")
    last_seen: float = Field(description="Time of the newest sign of life.")
    first_step: int = Field(description="-1 before the first.")
    last_step: int = Field(description="-1 before the first.")
    steps: int
    steps_per_s: float
    finished_at: float | None
    reason: str
    error: dict[str, Any] | None
    context: dict[str, Any]
    private: list[str] | None = Field(
        default=None,
        description="Dotted names of settings that share links don't show; null where they show none. Not in lists.",
    )
    cost: dict[str, Number]
    lost_frames: int
    tags: list[str]
    notes: str
    who: str = Field(description="Whose account started it; empty where that was not told.")
    tensor_count: int
    summary: dict[str, Number] = Field(description="Newest value of each run-level statistic.")


class DatabaseOut(BaseModel):
    """What everything takes."""

    bytes: int = Field(description="Size of the database.")
    max_bytes: int = Field(description="Size above which old exact values are thinned; 0: never.")


class RunsReply(BaseModel):
    """A page of the list of runs, newest first."""

    runs: list[RunOut]
    total: int
    revision: int
    bytes: dict[str, int] = Field(description="What the numbers of each of these runs take.")
    health: dict[str, dict[str, Any]] = Field(
        description="As from `GET /health`: state and sentence of each of these runs that was judged."
    )
    database: DatabaseOut | None = Field(default=None, description="For members and owners only.")


class SegmentOut(BaseModel):
    """A stretch of a run between restarts."""

    run_id: str
    id: str
    index: int
    start_step: int
    started_at: float


class StatisticOut(BaseModel):
    """A statistic that can be asked for as a series."""

    name: str
    scope: str
    width: int
    dtype: str
    cadence: int
    logged: bool


class StorageOut(BaseModel):
    """What a run takes on the disk."""

    bytes: int = Field(description="What its numbers take now.")
    thinned_before: int = Field(
        description="Exact values of earlier steps are gone, but around incidents; 0: all are there."
    )
    bytes_per_day: int | None = Field(description="At its present pace; null when it isn't running.")
    sentence: str = Field(description="The same in words, empty when it isn't running.")


class RunDetailReply(BaseModel):
    """A run and what can be asked of it."""

    run: RunOut
    segments: list[SegmentOut]
    statistics: list[StatisticOut]
    tensor_count: int
    storage: StorageOut
    revision: int


class TensorOut(BaseModel):
    """One named parameter."""

    index: int
    name: str
    shape: list[int]
    numel: int
    dtype: str
    depth: int
    module: str
    kind: str
    trainable: bool
    optimizer: int
    param_group: int
    fan_in: int | None
    init_std: Number | None
    sparse: bool


class GroupOut(BaseModel):
    """A node of the module tree."""

    index: int
    path: str
    parent: int
    tensors: list[int]


class TensorsReply(BaseModel):
    """Rows of tensor and group statistics."""

    tensors: list[TensorOut]
    groups: list[GroupOut]


class SeriesReply(BaseModel):
    """Buckets of ``width`` steps from ``first_bucket`` on; low, high, last and flags are rows x buckets."""

    width: int
    first_bucket: int
    low: list[list[Number]]
    high: list[list[Number]]
    last: list[list[Number]]
    flags: list[list[int]]
    last_step: int
    last_time: float


class ValuesReply(BaseModel):
    """Exact stored values, one row per step; null where there is none."""

    steps: list[float]
    times: list[float]
    values: list[list[Number | None]]


class HistogramReply(BaseModel):
    """How many elements of a sample of a gradient lie in each power of two. ``octaves[k]``: at least
    ``2 ** (lowest_exponent + k)`` and less than twice that. All is null and empty where the tensor has none."""

    step: int | None = Field(description="The sampled step nearest to the one asked for.")
    time: float | None
    zero: int = Field(description="Exactly zero.")
    below: int = Field(description="Smaller than the first octave.")
    octaves: list[int]
    above: int = Field(description="Larger than the last octave, and finite.")
    not_finite: int
    lowest_exponent: int


class MarkOut(BaseModel):
    """Something worth a glyph on the timeline."""

    run_id: str
    revision: int
    step: int
    time: float
    kind: str
    data: dict[str, Any]


class MarksReply(BaseModel):
    """Marks in the order they came."""

    marks: list[MarkOut]


class RunPatch(_In):
    """What people may change about a run. What is left out stays."""

    name: str | None = Field(default=None, min_length=1, max_length=512)
    tags: list[Annotated[str, Field(min_length=1, max_length=64)]] | None = Field(default=None, max_length=64)
    notes: str | None = Field(default=None, max_length=20_000)


class SessionStart(_In):
    """A single-use code from a printed link, or the server's token."""

    code: str = Field(default="", max_length=256)
    token: str = Field(default="", max_length=512)


class CodeReply(BaseModel):
    """A single-use code, good for ten minutes."""

    code: str
