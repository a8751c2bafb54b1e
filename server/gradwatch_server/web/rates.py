"""How often somebody may ask. Pure: the time is an argument."""

from __future__ import annotations

from dataclasses import dataclass, field

__all__ = ["Rates"]


@dataclass(kw_only=True, slots=True)
class Rates:
    """A bucket per name, which holds ``burst`` requests when full and fills by ``per_second``."""

    per_second: float
    burst: float
    most_names: int = 10_000
    """When so many are remembered, those whose buckets are full again are forgotten."""
    _left: dict[str, tuple[float, float]] = field(default_factory=dict)

    def take(self, name: str, now: float) -> bool:
        """Whether ``name`` may ask once more. A clock that goes back gives nothing and takes nothing."""
        left, since = self._left.get(name, (self.burst, now))
        left = min(self.burst, left + max(0.0, now - since) * self.per_second)
        allowed = left >= 1
        if name not in self._left and len(self._left) >= self.most_names:
            self._forget(now)
        self._left[name] = (left - allowed, now)
        return allowed

    def _forget(self, now: float) -> None:
        """If all are busy, the one that has not asked for longest goes."""
        filling = self.burst / self.per_second
        kept = {name: entry for name, entry in self._left.items() if now - entry[1] < filling}
        if len(kept) >= self.most_names:
            del kept[min(kept, key=lambda name: kept[name][1])]
        self._left = kept
