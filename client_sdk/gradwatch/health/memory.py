"""What the engine remembers of a run: bounded, the same for a short and an endless one. Detectors only read it."""

from __future__ import annotations

import math
from collections import deque
from dataclasses import dataclass, field
from itertools import islice
from typing import Any, Final

import numpy as np
import numpy.typing as npt

from .baseline import Quantile, Tracker, median, middle
from .episodes import Episode
from .frames import Frame, RankSample, Row, true_norms
from .layout import Layout
from .losses import LossTrack

__all__ = ["RING", "TENFOLD", "TINY_LOG2", "Memory"]

RING: Final = 128
"""Steps of per-tensor log2 norms kept: what localisation can look back on."""
TINY: Final = 2.0**-140
TINY_LOG2: Final = -139.0
"""A log2 norm below this is an exact zero."""
TENFOLD: Final = 3.3
"""In log2: a change of size that no new data of the same kind brings."""
_BLOCK: Final = 8
_AGO: Final = 60
"""Steps for which a raised learning rate is remembered, also when it has gone back by then."""


@dataclass(slots=True)
class Memory:
    """State over all frames so far. ``z`` is the score of the newest total norm against what came before it."""

    width: int
    step: int = -1
    time: float = 0.0
    frames: int = 0
    """Frames with gradients."""
    since: int = 0
    """Frames since the last change of regime."""
    total: float = math.nan
    x: float = math.nan
    """log2 of the total norm, NaN when it is zero or not finite."""
    z: float = 0.0
    mean: float = 0.0
    sigma: float = 1.0
    """Baseline of ``x`` as it was before the newest value."""
    top: float = -math.inf
    burst_step: int = -10_000
    """The step of the last norm ten times as large as nearly all that the run has seen, its start included."""
    finite: bool = True
    overflow: bool = False
    scaled: bool = False
    """Whether a loss scaler has been seen."""
    skips: int = 0
    lr: float = math.nan
    lr_steady: float = math.nan
    """The learning rate when it had last not been rising for a while."""
    lr_peak: float = 0.0
    lr_sum: float = 0.0
    """Of all steps: with the peak it says whether a schedule ended too soon."""
    lr_change_step: int = -1
    lr_change: float = 1.0
    lr_back: bool = False
    """Whether the rate fell again right after it was raised: the raise stays what is remembered."""
    ratio: float = math.nan
    ratio_mean: float = math.nan
    ratio_high_step: int = -10_000
    ratio_peak: float = 0.0
    cosine: float = math.nan
    cosine_least: float = math.inf
    """The least that three samples in a row had as their median."""
    step_time: float = math.nan
    input_bad: bool = False
    tracker: Tracker = field(default_factory=Tracker)
    quantile: Quantile = field(default_factory=Quantile)
    xs: deque[float] = field(default_factory=lambda: deque(maxlen=64))
    start_xs: list[float] = field(default_factory=list)
    raw: deque[float] = field(default_factory=lambda: deque(maxlen=256))
    """Finite total norms, for clip advice."""
    cosines: deque[float] = field(default_factory=lambda: deque(maxlen=20))
    lrs: deque[float] = field(default_factory=lambda: deque(maxlen=64))
    step_times: deque[float] = field(default_factory=lambda: deque(maxlen=32))
    checkpoints: deque[int] = field(default_factory=lambda: deque(maxlen=32))
    val: deque[list[float]] = field(default_factory=lambda: deque(maxlen=32))
    loss: LossTrack = field(default_factory=LossTrack)
    episode: Episode = field(default_factory=Episode)
    ring: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    ring_steps: npt.NDArray[np.int64] = field(default_factory=lambda: np.full(RING, -1, np.int64))
    base_m: Row = field(default_factory=lambda: np.zeros(0))
    base_s: Row = field(default_factory=lambda: np.ones(0))
    zero_run: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    absent_run: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    any_zero: bool = False
    any_absent: bool = False
    alive: npt.NDArray[np.bool_] = field(default_factory=lambda: np.zeros(0, np.bool_))
    still: npt.NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, np.int64))
    """Consecutive samples with a gradient but an update of exactly zero."""
    weights: Row = field(default_factory=lambda: np.zeros(0))
    weights_before: Row = field(default_factory=lambda: np.zeros(0))
    weight_step: int = -1
    weight_step_before: int = -1
    moved: int = -1
    """The tensor whose weight norm last jumped by itself, and when that was seen."""
    moved_step: int = -10_000
    ratios: Row = field(default_factory=lambda: np.zeros(0))
    zeros: npt.NDArray[np.float32] = field(default_factory=lambda: np.zeros((0, 0), np.float32))
    """The last 8 samples of the zero fraction."""
    zeros_n: int = 0
    frame: Frame | None = None
    ranks: RankSample | None = None
    """The sample of the ranks that is being looked at."""

    def __post_init__(self) -> None:
        if not len(self.base_m):
            self.resize(self.width)

    def resize(self, width: int) -> None:
        """Room for ``width`` tensors; those known keep their history."""
        old = self.ring.shape[1]
        ring = np.full((RING, width), np.nan, np.float32)
        ring[:, :old] = self.ring if old else ring[:, :old]
        zeros = np.full((8, width), np.nan, np.float32)
        zeros[:, :old] = self.zeros if old else zeros[:, :old]
        self.ring, self.zeros, self.width = ring, zeros, width
        for name in ("base_m", "base_s", "ratios"):
            setattr(self, name, _longer(getattr(self, name), width, np.nan))
        for name in ("weights", "weights_before"):
            setattr(self, name, _longer(getattr(self, name), width, 0.0))
        for name in ("zero_run", "absent_run", "alive", "still"):
            setattr(self, name, _longer(getattr(self, name), width, 0))

    # --- what came ------------------------------------------------------------------------------------------------

    def take(self, frame: Frame, layout: Layout) -> None:
        """Takes one frame in. Scores are made before the value is learnt."""
        self.frame = frame
        self.step, self.time = frame.step, frame.time
        self._take_run(frame)
        norms = frame.rows.get("grad_norm")
        if not self._is_overflow(frame) and norms is not None:
            self._take_norms(frame, true_norms(frame, norms))
            if self.tracker.ready and self.x - self.mean >= 3.0 and layout.family == "sgd":
                self._note_update(frame, norms, layout)
        self._take_samples(frame, layout)

    def _take_run(self, frame: Frame) -> None:
        lr = frame.number("lr")
        if lr == lr:
            if self.lr == self.lr and self.lr > 0 and lr != self.lr and abs(lr / self.lr - 1) > 0.2:
                recent = frame.step - self.lr_change_step <= _AGO
                self.lr_back = lr < self.lr and self.lr_change > 1.2 and recent
                if not self.lr_back:
                    self.lr_change_step, self.lr_change = frame.step, lr / self.lr
            self.lr, self.lr_peak = lr, max(self.lr_peak, lr)
            self.lr_sum += lr
            self.lrs.append(lr)
            if not self.lr_rose():
                self.lr_steady = lr
        took = frame.number("step_time")
        if took == took:
            self.step_times.append(took)
        if "loss_scale" in frame.run and frame.number("loss_scale") == frame.number("loss_scale"):
            self.scaled = True
        bad = frame.run.get("input_nonfinite")
        self.input_bad = bad is not None and bool((bad > 0).any())

    def _is_overflow(self, frame: Frame) -> bool:
        """A step that the loss scaler skipped, as it should: no baseline hears of it."""
        self.overflow = self.scaled and frame.number("skipped") > 0
        self.skips = self.skips + 1 if self.overflow else 0
        if self.overflow:
            self.finite, self.x, self.z = True, math.nan, 0.0
        return self.overflow

    def _take_norms(self, frame: Frame, norms: Row) -> None:
        present = frame.present
        filled = norms if present is None else np.where(present, norms, 0.0)
        own = float(filled @ filled)
        self.finite = math.isfinite(own)
        given = frame.number("global_grad_norm")
        self.total = given if math.isfinite(given) and self.finite else math.sqrt(own) if own >= 0 else own
        self.x = math.log2(self.total) if self.finite and self.total > 0 else math.nan
        slot = self.frames % RING
        np.log2(np.maximum(norms, TINY), out=self.ring[slot], casting="same_kind")
        self.ring_steps[slot] = frame.step
        self.frames += 1
        self.since += 1
        self._count(filled, present)
        self._score()
        if self.frames % _BLOCK == 0:
            self._learn_rows()

    def _count(self, filled: Row, present: npt.NDArray[np.bool_] | None) -> None:
        zero = filled == 0.0
        if present is not None:
            zero &= present
            self.absent_run += 1
            self.absent_run[present] = 0
            self.any_absent = True
        elif self.any_absent:
            self.absent_run[:] = 0
            self.any_absent = False
        if np.count_nonzero(zero):
            self.zero_run += 1
            self.zero_run *= zero
            self.any_zero = True
        elif self.any_zero:
            self.zero_run[:] = 0
            self.any_zero = False
        if self.frames % _BLOCK == 1:
            fresh = (filled > 0) & ~self.alive
            if fresh.any():
                self.alive |= fresh
                if self.frames > 50 and fresh.sum() >= max(1, 0.05 * self.width):
                    self.shift()

    def _score(self) -> None:
        self.mean, self.sigma = self.tracker.m, max(self.tracker.s, 0.15)
        self.top = self.quantile.top
        if self.x != self.x:
            self.z = 0.0
            return
        if self.since > 50 and self.x >= max(self.top, self.quantile.first_max) + TENFOLD:
            self.burst_step = self.step
        self.z = self.tracker.score(self.x)
        self.tracker.learn(self.x)
        self.quantile.learn(self.x)
        self.xs.append(self.x)
        self.raw.append(self.total)
        if len(self.start_xs) < 20:
            self.start_xs.append(self.x)

    def _learn_rows(self) -> None:
        """Per-tensor baselines, once per 8 frames: clipped, so that one spike moves them little."""
        if self.frames < 32:
            return
        slots = np.arange(self.frames - (_BLOCK if self.frames > 32 else 24), self.frames) % RING
        rows = self.ring[slots].astype(np.float64)
        good = np.isfinite(rows) & (rows > TINY_LOG2)
        fresh = np.isnan(self.base_m) & (good.sum(axis=0) >= _BLOCK)
        if fresh.any():
            some = np.where(good, rows, np.nan)[:, fresh]
            self.base_m[fresh] = np.nanmedian(some, axis=0)
            self.base_s[fresh] = np.maximum(
                1.4826 * np.nanmedian(np.abs(some - self.base_m[fresh]), axis=0), 0.15
            )
            return
        limit = 3.0 * self.base_s
        off = np.where(good, np.clip(rows - self.base_m, -limit, limit), 0.0)
        share = good.sum(axis=0)
        share = np.maximum(share, 1)
        self.base_m += 0.15 * off.sum(axis=0) / share
        spread = 1.2533 * np.abs(off).sum(axis=0) / share
        self.base_s = np.maximum(self.base_s + 0.15 * (spread - self.base_s), 0.1)

    def _take_samples(self, frame: Frame, layout: Layout) -> None:
        rows = frame.rows
        if "update_ratio" in rows:
            self._take_ratio(frame, rows["update_ratio"], layout)
        if "weight_norm" in rows:
            self.weights_before, self.weight_step_before = self.weights, self.weight_step
            here = frame.weighed
            fresh = rows["weight_norm"] if here is None else np.where(here, rows["weight_norm"], self.weights)
            self.weights, self.weight_step = fresh.copy(), frame.step
            self._note_moved()
        if "grad_cosine" in rows:
            known = rows["grad_cosine"][np.isfinite(rows["grad_cosine"])]
            if len(known):
                self.cosine = middle(known)
                self.cosines.append(self.cosine)
                if len(self.cosines) >= 3:
                    self.cosine_least = min(self.cosine_least, median(list(self.cosines)[-3:]))
        # Where the whole gradient is exactly zero the loss is (margins that are kept): that says nothing about units.
        if "zero_fraction" in rows and self.total != 0:
            self.zeros[self.zeros_n % 8] = rows["zero_fraction"]
            self.zeros_n += 1

    def _note_moved(self) -> None:
        """Notes a weight whose norm changed by half or more since the last sample while the others' hardly did.

        No optimizer does that: it was changed from outside, or damaged.
        """
        if self.weight_step_before < 0:
            return
        before, after = self.weights_before, self.weights
        good = np.isfinite(before) & np.isfinite(after) & (before > 1e-3) & (after > 0)
        if np.count_nonzero(good) < 2:
            return
        change = np.abs(np.log2(np.where(good, after, 1.0) / np.where(good, before, 1.0)))
        lead = int(change.argmax())
        next_most = float(np.partition(change, -2)[-2])
        if change[lead] > 0.6 and change[lead] > 4.0 * next_most:
            self.moved, self.moved_step = lead, self.step

    def _take_ratio(self, frame: Frame, ratio: Row, layout: Layout) -> None:
        self.ratios = ratio.copy()
        known = ratio[layout.matrix & np.isfinite(ratio)]
        norms = frame.rows.get("grad_norm")
        if norms is not None:
            frozen = (ratio == 0) & (norms > 0) & (frame.number("lr") > 0)
            self.still = np.where(frozen, self.still + 1, 0)
        if not len(known):
            return
        self.ratio = middle(known)
        self.ratio_peak = max(self.ratio_peak, self.ratio)
        log = math.log2(max(self.ratio, 1e-30))
        if self.ratio >= 0.05 and log >= self.ratio_mean + 3.0:
            self.ratio_high_step = frame.step
        if self.ratio_mean != self.ratio_mean:
            self.ratio_mean = log
        else:
            self.ratio_mean += 0.1 * (min(log, self.ratio_mean + 3.0) - self.ratio_mean)

    def _note_update(self, frame: Frame, norms: Row, layout: Layout) -> None:
        """Notes a step that changed the weights by a fifth or more: SGD's is the LR times the gradient, or larger."""
        clipped = frame.number("clip_coef")
        rate = self.lr * (clipped if clipped == clipped else 1.0)
        good = layout.matrix & (self.weights > 0) & np.isfinite(norms)
        if rate > 0 and good.any():
            ratio = rate * middle(norms[good] / self.weights[good])
            if ratio > 0.2:
                self.ratio_high_step, self.ratio_peak = frame.step, max(self.ratio_peak, ratio)

    def take_loss(self, step: int, value: float) -> None:
        """Takes one logged loss in."""
        self.loss.learn(step, value, self.lr)
        if not self.loss.bad:
            self.episode.learn(self.loss)

    # --- regimes and questions --------------------------------------------------------------------------------------

    def shift(self) -> None:
        """The regime changed (a phase, a resume, a thawed backbone): old baselines judge nothing any more."""
        self.tracker.restart()
        self.quantile.restart()
        self.loss.restart()
        self.episode = Episode()
        self.xs.clear()
        self.start_xs = []
        self.since = 0
        self.ratio_mean = math.nan
        self.cosine_least = math.inf
        self.zeros_n = 0
        self.base_m[:] = np.nan

    def level_of(self, last: int) -> float:
        """Median of the last ``last`` log2 totals, NaN when there are fewer."""
        if len(self.xs) < last:
            return math.nan
        return median(islice(reversed(self.xs), last))

    def window(
        self, last: int, only: list[int] | None = None
    ) -> tuple[npt.NDArray[np.int64], npt.NDArray[np.float32]]:
        """Steps ``[k]`` and log2 norms ``[k, tensors]`` of the last ``last`` frames (at most 128), oldest first."""
        k = min(last, self.frames, RING)
        at = np.arange(self.frames - k, self.frames) % RING
        return self.ring_steps[at], self.ring[at] if only is None else self.ring[at[:, None], only]

    def update_high(self, within: int = 20) -> bool:
        """Whether the update ratio stood far above its own past within the last ``within`` steps."""
        return self.step - self.ratio_high_step <= within

    def weight_moved(self, within: int = 60) -> bool:
        """Whether a single weight jumped within the last ``within`` steps."""
        return self.step - self.moved_step <= within

    def lr_rose(self, within: int = _AGO) -> bool:
        """Whether the learning rate was raised by a fifth or more, at once or bit by bit, in the last ``within`` steps."""
        jumped = self.lr_change > 1.2 and 0 <= self.step - self.lr_change_step <= within
        return jumped or (len(self.lrs) > 1 and self.lrs[-1] > 1.2 * self.lrs[0])


def _longer(values: npt.NDArray[Any], width: int, fill: float) -> npt.NDArray[Any]:
    longer = np.full(width, fill, values.dtype)
    longer[: len(values)] = values
    return longer
