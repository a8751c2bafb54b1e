"""Which incidents a rule waits for, and what its alert says."""

from __future__ import annotations

from typing import Any

import pytest

from gradwatch_server.alerts.incidents import alert_of, concerns

from .builders import a_rule


def incident(**fields: Any) -> dict[str, Any]:
    plain: dict[str, Any] = {
        "id": "i1", "kind": "exploding", "severity": "critical", "sentence": "Exploding since step 7.", "opened_step": 9,
        "opened_time": 1009.0, "first_step": 7, "closed_step": None, "closed_time": None, "caused_by": "", "merged_into": "",
        "origin": {"step": 7, "tensor": "a.weight", "followers": [["b.weight", 8], ["c.weight", 8]], "followed": 12},
    }  # fmt: skip
    return {**plain, **fields}


def waiting(**fields: Any) -> Any:
    return a_rule(statistic="health", condition="incident", **fields)


@pytest.mark.parametrize(
    ("rule", "found", "expected"),
    [
        (waiting(), incident(), True),
        (waiting(), incident(severity="warning"), True),
        (waiting(), incident(severity="info"), False),
        (waiting(least="critical"), incident(severity="warning"), False),
        (waiting(incidents="spike, explod*"), incident(), True),
        (waiting(incidents="spike"), incident(), False),
        (waiting(), incident(caused_by="i0"), False),
        (waiting(), incident(merged_into="i0"), False),
        (a_rule(), incident(), False),
    ],
)
def test_what_a_rule_waits_for(rule: Any, found: dict[str, Any], expected: bool) -> None:
    assert concerns(rule, found) is expected


def test_the_alert_lives_as_long_as_the_incident() -> None:
    opened = alert_of(waiting(), "run1", incident())
    closed = alert_of(waiting(), "run1", incident(closed_step=40, closed_time=1040.0))
    assert opened.id == closed.id != alert_of(waiting(version=2), "run1", incident()).id
    assert (opened.opened_step, opened.cleared_step, closed.cleared_step) == (9, None, 40)
    assert (opened.severity, opened.sentence) == ("critical", "Exploding since step 7.")
    assert (opened.count, opened.worst) == (13, ("a.weight", "b.weight", "c.weight"))
