"""How often somebody may ask, or be wrong. Pure: the time is an argument."""

from __future__ import annotations

import threading
from dataclasses import dataclass, field

__all__ = ["Attempts", "Rates"]


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


class Attempts:
    """Wrong passwords by name. Each counts as wrong until it turns out right, so that many at once get no further. Any
    thread may call."""

    def __init__(self, most: int, seconds: float, most_names: int = 10_000) -> None:
        self._most = most
        self._seconds = seconds
        self._most_names = most_names
        self._at: dict[str, list[float]] = {}
        self._lock = threading.Lock()

    def begin(self, name: str, now: float) -> bool:
        """Whether ``name`` may try once more; if so it has."""
        with self._lock:
            recent = [at for at in self._at.pop(name, ()) if now - at < self._seconds]
            allowed = len(recent) < self._most
            if not recent and len(self._at) >= self._most_names:
                del self._at[next(iter(self._at))]  # the one that tried least lately
            self._at[name] = [*recent, now] if allowed else recent
            return allowed

    def right(self, name: str, now: float) -> None:
        """The attempt that ``name`` began at ``now`` was right: it doesn't count."""
        with self._lock:
            found = self._at.get(name, [])
            if now in found:
                found.remove(now)
