"""What rules say they wait for."""

from __future__ import annotations

import pytest

from gradwatch_server.alerts.sentences import rule_sentence, span

from .builders import a_rule


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (1, "1 second"),
        (90, "90 seconds"),
        (0.5, "0.5 seconds"),
        (60, "1 minute"),
        (900, "15 minutes"),
        (3600, "1 hour"),
        (5400, "90 minutes"),
        (86_400, "24 hours"),
    ],
)
def test_a_time_is_told_in_the_largest_unit_without_a_fraction(seconds: float, words: str) -> None:
    assert span(seconds) == words


def test_a_rule_about_silence_tells_how_long() -> None:
    made = a_rule(condition="silent", statistic="global_grad_norm", threshold=900.0)
    assert rule_sentence(made) == "the gradient norm has not come for more than 15 minutes"
