"""The prose says what the tables say."""

from __future__ import annotations

from pathlib import Path

from gradwatch_server.alerts.defaults import DEFAULT_RULES
from gradwatch_server.alerts.kinds import RULE_KINDS
from gradwatch_server.alerts.sentences import number
from gradwatch_server.notify.courier import FIRST_WAIT, MOST_A_DAY, MOST_ATTEMPTS

DOC = (Path(__file__).parents[3] / "server" / "docs" / "alerts.md").read_text(encoding="utf-8")


def test_every_condition_has_a_row_with_its_defaults() -> None:
    rows = {line.split("|")[1].strip(): line for line in DOC.splitlines() if line.startswith("| ")}
    for kind in RULE_KINDS:
        assert kind.label in rows
        for _, value in kind.defaults:
            assert not isinstance(value, float | int) or number(value) in rows[kind.label], kind.label


def test_numbers_in_the_text_are_those_of_the_code() -> None:
    words = {3: "three", 10: "ten"}
    assert f"at most {words[MOST_A_DAY]} alerts a day" in DOC
    assert f"{words[MOST_ATTEMPTS]} times in all" in DOC
    assert f"after {FIRST_WAIT:g} seconds" in DOC
    assert len(DEFAULT_RULES) == 2 and "Two rules are there from the start" in DOC
    assert {rule.threshold for rule in DEFAULT_RULES if rule.condition == "silent"} == {15 * 60.0}
