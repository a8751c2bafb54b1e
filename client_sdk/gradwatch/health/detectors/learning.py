"""What the loss says: diverging, oscillating, stalled, and validation that worsens while training improves."""

from __future__ import annotations

from dataclasses import dataclass
from itertools import islice

from ..baseline import mad, median
from ..excuses import may_be_new_data
from ..incidents import Evidence, Finding, Origin, Severity
from ..layout import Layout
from ..losses import CRITICAL, ELEVATED, RAISED
from ..memory import Memory

__all__ = ["Diverging", "Oscillating", "Overfitting", "Stalled"]


@dataclass(slots=True)
class Diverging:
    """A loss that stays far above its baseline (science notes, D4: no false alarm in 87,000 healthy steps).

    What looks like new data (:func:`may_be_new_data`) stays info as long as it keeps falling.
    """

    told: bool = False

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding while the loss is worse than it was."""
        loss, episode = memory.loss, memory.episode
        self.told = episode.open and (self.told or loss.level >= RAISED)
        if not self.told:
            return None
        severity: Severity = "info"
        if not (loss.signed or layout.adversarial or may_be_new_data(memory, layout)):
            lasting = loss.level == ELEVATED or episode.lasting(loss)
            severity = "critical" if loss.level == CRITICAL else "warning" if lasting else "info"
        text = (
            f"The loss rose from {episode.reference:.4g} to {loss.near:.4g} (median of the last ten) "
            f"since step {episode.onset:,}."
        )
        numbers = {"before": episode.reference, "now": loss.near, "at_start": loss.start}
        return Finding(
            detector="diverging",
            kind="diverging",
            severity=severity,
            step=episode.onset,
            evidence=(Evidence(text, numbers),),
        )


@dataclass(slots=True)
class Oscillating:
    """A loss that zigzags without improving while successive gradients point against each other."""

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding every tenth loss while it holds."""
        loss = memory.loss
        if loss.n < 80 or loss.n % 10 or loss.turn.rate < 0.8 or layout.adversarial:
            return None
        against = len(memory.cosines) >= 5 and median(list(memory.cosines)[-5:]) <= -0.3
        size = len(loss.long)
        recent = list(islice(loss.long, size - 40, size))
        earlier = list(islice(loss.long, size - 80, size - 40))
        now, before = median(recent), median(earlier)
        swing = mad(recent, now)
        grew = swing > 1.6 * mad(earlier, before)
        if now < before - 0.02 * abs(loss.scale) or swing < 0.02 * abs(loss.scale) or not (against or grew):
            return None
        # Noise around a target that moves (bootstrapped values) turns and opposes itself too: it neither grows nor is wide.
        wide = swing > (0.05 if grew else 0.25) * abs(loss.scale)
        bad = against and loss.improved < 0.5 and wide
        text = (
            f"The loss turned at {100 * loss.turn.rate:.0f} % of the last 50 steps, swings by {swing:.3g} around {now:.4g} "
            "and does not improve."
        )
        return Finding(
            detector="oscillating",
            kind="oscillating",
            severity="warning" if bad else "info",
            step=max(loss.step - int(80 * (loss.gap if loss.gap == loss.gap else 1)), 0),
            evidence=(Evidence(text, {"turns": loss.turn.rate, "swing": swing, "cosine": memory.cosine}),),
            origin=Origin(step=loss.step, where="model"),
        )


@dataclass(slots=True)
class Stalled:
    """A loss that does not move. Info by itself; a warning when the updates are too small to do anything."""

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding every tenth loss while it holds."""
        loss = memory.loss
        if loss.n < 100 or loss.n % 10 or loss.signed or not memory.lr > 0:
            return None
        rising = len(memory.lrs) > 1 and memory.lrs[-1] > memory.lrs[0]
        never = loss.improved < 0.03
        tiny = memory.ratio < 5e-6
        huge = 2.0**memory.ratio_mean > 0.05 and memory.ratio > 0.05
        if rising or not loss.near > 0.05 * loss.start:
            return None
        decayed = memory.lr < 0.05 * memory.lr_peak
        # A schedule may end where it likes, unless it has hardly begun: then it counts steps that were meant to be epochs.
        ran_out = decayed and tiny and memory.lr_sum < 0.1 * memory.lr_peak * memory.frames
        ran_out = ran_out and loss.improved < 0.3
        if not (never and tiny) and not ran_out and not self._flat(memory):
            return None
        bad = (never and tiny and not decayed) or (huge and loss.improved < 0.5 and not decayed)
        severity: Severity = "warning" if (bad or ran_out) and not layout.adversarial else "info"
        if decayed and not never and not ran_out:
            return None
        gained = (
            f"{100 * loss.improved:.1f} % below the start"
            if loss.improved > 0
            else "no better than at the start"
        )
        text = f"The loss stands at {loss.near:.4g}, {gained}, and does not move"
        if memory.lr < 0.01 * memory.lr_peak:
            text += f"; the learning rate is {memory.lr:.2g}, after {memory.lr_peak:.2g} at its peak"
        elif memory.ratio == memory.ratio:
            text += f"; each step changes the weights by {100 * memory.ratio:.2g} % of their size (0.1 % is usual)"
        return Finding(
            detector="stalled",
            kind="stalled",
            severity=severity,
            step=max(loss.step - 100, 0),
            evidence=(Evidence(text + ".", {"improved": loss.improved, "update_ratio": memory.ratio}),),
            origin=Origin(step=max(loss.step - 100, 0), where="model"),
        )

    @staticmethod
    def _flat(memory: Memory) -> bool:
        values = list(memory.loss.long)
        if len(values) < 200:
            return False
        half = len(values) // 2
        early, late = median(values[:half]), median(values[half:])
        return late > early * 0.995 and memory.loss.near > 0.5 * memory.loss.start


@dataclass(slots=True)
class Overfitting:
    """Validation loss worsens three times in a row while the training loss goes on falling. Info: a remark, not a fault."""

    def look(self, memory: Memory, layout: Layout) -> Finding | None:
        """The finding at a validation loss."""
        if len(memory.val) < 5:
            return None
        values = list(memory.val)
        best = min(values, key=lambda v: v[1])
        tail = values[-3:]
        worse = all(v[1] > 1.05 * best[1] and v[0] > best[0] for v in tail) and tail[-1][1] >= tail[0][1]
        if not worse or best[1] <= 0 or not tail[-1][2] < best[2]:
            return None
        step = int(best[0])
        text = (
            f"The validation loss was best at step {step:,} ({best[1]:.4g}) and is {tail[-1][1]:.4g} now, "
            f"while the training loss fell from {best[2]:.4g} to {tail[-1][2]:.4g}."
        )
        return Finding(
            detector="overfitting",
            kind="overfitting",
            severity="info",
            step=step,
            evidence=(Evidence(text, {"best": best[1], "now": tail[-1][1], "best_step": float(step)}),),
            origin=Origin(step=step, where="model"),
        )
