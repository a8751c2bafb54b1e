from __future__ import annotations

import pytest

from gradwatch.errors import GradwatchStop
from gradwatch.shield import Shield


def fail() -> int:
    raise ValueError("the disk is on fire\nsecond line")


def test_swallows_counts_and_tells_once(swallowed: list[Exception]) -> None:
    told: list[str] = []
    shield = Shield(told.append, limit=100)
    call = shield.wrap(fail, "step hook")
    assert [call(), call(), call()] == [None, None, None]
    assert shield.counts == {"step hook": 3}
    assert told == ["something went wrong in step hook (ValueError: the disk is on fire); training goes on"]
    assert [str(e).splitlines()[0] for e in swallowed] == ["the disk is on fire"] * 3
    swallowed.clear()


def test_trips_over_all_places_and_then_no_longer_calls(swallowed: list[Exception]) -> None:
    told: list[str] = []
    tripped: list[bool] = []
    calls: list[int] = []
    shield = Shield(told.append, limit=2, on_trip=lambda: tripped.append(True))
    shield.wrap(fail, "a")()
    with shield.guard("b"):
        fail()
    assert shield.tripped and tripped == [True]
    shield.wrap(lambda: calls.append(1), "c")()
    assert calls == [] and len(told) == 3
    assert len(swallowed) == 2
    swallowed.clear()


def test_passes_results_arguments_and_the_users_stop() -> None:
    shield = Shield(print)
    assert shield.wrap(divmod, "x")(7, 2) == (3, 1)

    def stop() -> None:
        raise GradwatchStop("loss above 10 for 20 steps")

    with pytest.raises(GradwatchStop):
        shield.wrap(stop, "x")()
    with pytest.raises(GradwatchStop), shield.guard("x"):
        stop()
    with pytest.raises(KeyboardInterrupt), shield.guard("x"):
        raise KeyboardInterrupt
    assert shield.counts == {}


def test_a_broken_terminal_or_clean_up_is_swallowed_too(swallowed: list[Exception]) -> None:
    def broken(text: str = "") -> None:
        raise OSError("no terminal")

    shield = Shield(broken, limit=1, on_trip=broken)
    assert shield.wrap(fail, "x")() is None
    assert shield.tripped and len(swallowed) == 1
    swallowed.clear()
