"""What a form may send, and what is said beside each field."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gradwatch_server.alerts.kinds import KIND, PARAMETER, RULE_KINDS
from gradwatch_server.alerts.validation import RuleInvalid, parse_rule

BASE: dict[str, Any] = {"statistic": "global_grad_norm", "threshold": 10}


def parse(**body: Any) -> Any:
    return parse_rule({**BASE, **body}, id="r", now=5.0)


def wrong(**body: Any) -> dict[str, str]:
    with pytest.raises(RuleInvalid) as caught:
        parse(**body)
    return caught.value.fields


def test_defaults_and_a_name_made_from_the_rule() -> None:
    rule = parse(tensors="blocks.*", statistic="grad_norm", for_steps=3)
    assert rule.name == "The gradient norm of blocks.* is above 10 for 3 steps in a row"
    assert (rule.threshold, rule.recover_steps, rule.severity, rule.enabled) == (10.0, 10, "warning", True)
    assert (rule.version, rule.created_at, rule.updated_at, rule.scope) == (1, 5.0, 5.0, "tensor")


def test_an_edit_keeps_what_it_does_not_name_and_raises_the_version() -> None:
    rule = parse(name="mine", severity="critical")
    edited = parse_rule({"threshold": 3}, id="r", now=9.0, previous=rule)
    assert (edited.name, edited.severity, edited.threshold) == ("mine", "critical", 3.0)
    assert (edited.version, edited.created_at, edited.updated_at) == (2, 5.0, 9.0)


def test_incidents_are_of_kinds_that_there_are() -> None:
    def about(incidents: str, *kinds: str) -> Any:
        body = {"condition": "incident", "incidents": incidents}
        return parse_rule(body, id="r", now=0.0, incidents=kinds).incidents

    for globs in ("*", "exploding", "explod*, spike", "spike,"):
        assert about(globs, "exploding", "spike") == globs
    assert about("anything") == "anything"
    with pytest.raises(RuleInvalid) as caught:
        about("spike, explode", "spike", "exploding")
    assert caught.value.fields == {
        "incidents": "There is no kind of incident 'explode'. There are: exploding, spike."
    }


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({"threshold": "ten"}, "threshold"),
        ({"threshold": None}, "threshold"),
        ({"threshold": math.nan}, "threshold"),
        ({"threshold": "Infinity"}, "threshold"),
        ({"threshold": True}, "threshold"),
        ({"for_steps": 0}, "for_steps"),
        ({"for_steps": 1.5}, "for_steps"),
        ({"for_steps": 10**9}, "for_steps"),
        ({"window": 5000, "aggregate": "mean"}, "window"),
        ({"aggregate": "median"}, "aggregate"),
        ({"severity": "fatal"}, "severity"),
        ({"statistic": ""}, "statistic"),
        ({"statistic": 3}, "statistic"),
        ({"name": "x" * 121}, "name"),
        ({"name": "two\nlines"}, "name"),
        ({"tensors": "*" * 40}, "tensors"),
        ({"tensors": "a", "groups": "b"}, "groups"),
        ({"condition": "about"}, "condition"),
        ({"condition": ["above"]}, "condition"),
        ({"condition": "outside", "upper": 10}, "upper"),
        ({"condition": "outside"}, "upper"),
        ({"condition": "unusual", "window": 3}, "window"),
        ({"condition": "grows", "threshold": 0}, "threshold"),
        ({"enabled": "yes"}, "enabled"),
        ({"channels": "all"}, "channels"),
        ({"colour": "red"}, "colour"),
    ],
)
def test_each_mistake_is_told_beside_its_field(body: dict[str, Any], field: str) -> None:
    fields = wrong(**body)
    assert list(fields) == [field]
    assert fields[field].endswith(".")


def test_all_mistakes_are_told_at_once() -> None:
    assert set(wrong(threshold="x", for_steps=0, severity="?")) == {"threshold", "for_steps", "severity"}


json_values: st.SearchStrategy[Any] = st.recursive(
    st.none() | st.booleans() | st.floats() | st.integers() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=5,
)


@given(st.dictionaries(st.sampled_from(sorted(PARAMETER)) | st.text(max_size=8), json_values, max_size=6))
def test_any_json_is_a_rule_or_a_sentence(body: dict[str, Any]) -> None:
    try:
        rule = parse_rule(body, id="r", now=0.0)
    except RuleInvalid as error:
        assert error.fields and all(error.fields.values())
    else:
        assert rule.name


def test_the_table_is_whole() -> None:
    for kind in RULE_KINDS:
        assert set(kind.parameters) <= set(PARAMETER)
        defaults = {key: PARAMETER[key].default for key in kind.parameters} | dict(kind.defaults)
        body = {"statistic": "loss", "condition": kind.condition, **defaults}
        if kind.condition == "outside":
            body["upper"] = 2.0
        assert parse_rule(body, id="r", now=0.0).condition == kind.condition
    assert len(KIND) == len(RULE_KINDS)
