"""From a form to a rule: every field is checked against the table of parameters, and told what is wrong beside it."""

from __future__ import annotations

import math
from collections.abc import Collection, Mapping
from dataclasses import replace
from typing import Any, Final

from ..models import Rule
from .globs import matches
from .kinds import COMMON, HEALTH, KIND, PARAMETER, PARAMETERS, Kind, Parameter
from .sentences import rule_sentence

MAX_STARS: Final = 32
"""Most * in one glob."""


class RuleInvalid(ValueError):
    """A rule that cannot be. ``fields`` maps each wrong field to a sentence."""

    def __init__(self, fields: Mapping[str, str]) -> None:
        super().__init__("This rule can't be saved yet: " + " ".join(fields.values()))
        self.fields = dict(fields)


def parse_rule(
    body: Mapping[str, Any],
    *,
    id: str,
    now: float,
    previous: Rule | None = None,
    incidents: Collection[str] = (),
) -> Rule:
    """The rule that ``body`` describes; fields that are left out keep those of ``previous``, else their defaults.
    ``incidents`` are the kinds of incidents that there are; without them any will do.

    Raises :class:`RuleInvalid`. A name that is left empty is made from the rule.
    """
    wrong: dict[str, str] = {}
    condition = body.get("condition", previous.condition if previous else "above")
    kind = KIND.get(condition) if isinstance(condition, str) else None
    if kind is None:
        raise RuleInvalid({"condition": "Choose one of the conditions: " + ", ".join(KIND) + "."})
    fields: dict[str, Any] = {}
    for parameter in PARAMETERS:
        if parameter.key not in (*COMMON, *kind.parameters) or parameter.key == "condition":
            continue
        try:
            fields[parameter.key] = _value(parameter, kind, body, previous)
        except ValueError as error:
            wrong[parameter.key] = str(error)
    for key in body.keys() - PARAMETER.keys():
        wrong[str(key)[:64]] = f"There is no field {str(key)[:64]!r} in a rule."
    if kind.condition == "incident":
        fields.update(statistic=HEALTH, tensors="", groups="")
        wrong = {
            key: sentence for key, sentence in wrong.items() if key not in ("statistic", "tensors", "groups")
        }
    _check_together(kind, fields, wrong)
    if kind.condition == "incident" and incidents:
        _check_incidents(fields.get("incidents", "*"), incidents, wrong)
    if wrong:
        raise RuleInvalid(wrong)
    rule = Rule(
        id=id,
        condition=kind.condition,
        source=previous.source if previous else "user",
        created_at=previous.created_at if previous else now,
        updated_at=now,
        version=previous.version + 1 if previous else 1,
        **fields,
    )
    return rule if rule.name else replace(rule, name=_title(rule))


def _value(parameter: Parameter, kind: Kind, body: Mapping[str, Any], previous: Rule | None) -> Any:
    if parameter.key in body and body[parameter.key] is not None:
        return _READERS[parameter.type](parameter, body[parameter.key])
    if previous is not None:
        return getattr(previous, parameter.key)
    if parameter.key in ("statistic", "threshold", "upper") and parameter.key not in dict(kind.defaults):
        raise ValueError(f"{parameter.label} is missing.")
    return dict(kind.defaults).get(parameter.key, parameter.default)


def _check_together(kind: Kind, fields: dict[str, Any], wrong: dict[str, str]) -> None:
    if fields.get("tensors") and fields.get("groups"):
        wrong["groups"] = "Choose layers or module groups, not both."
    if kind.condition == "outside" and fields.get("upper", math.inf) <= fields.get("threshold", -math.inf):
        wrong.setdefault("upper", "The upper end must be greater than the threshold.")
    if fields.get("window", kind.least_window) < kind.least_window:
        wrong.setdefault("window", f"Take a window of at least {kind.least_window} steps.")
    if kind.condition in ("grows", "shrinks", "unusual", "silent") and fields.get("threshold", 1.0) <= 0:
        wrong.setdefault("threshold", "Take a number greater than 0.")


def _check_incidents(globs: str, kinds: Collection[str], wrong: dict[str, str]) -> None:
    """Each glob must fit a kind that there is: another would wait for ever."""
    for glob in filter(None, (part.strip() for part in globs.split(","))):
        if not any(matches(glob, kind) for kind in kinds):
            known = ", ".join(sorted(kinds))
            wrong["incidents"] = f"There is no kind of incident {glob!r}. There are: {known}."


def _text(parameter: Parameter, value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{parameter.label} must be text.")
    value = value.strip()
    if len(value) > (parameter.maximum or 0):
        raise ValueError(f"{parameter.label} may have at most {int(parameter.maximum or 0)} characters.")
    if any(ord(character) < 32 for character in value):
        raise ValueError(f"{parameter.label} can't contain line breaks or control characters.")
    if parameter.required and not value:
        raise ValueError(f"{parameter.label} is missing.")
    if parameter.key in ("tensors", "groups", "project", "run", "incidents") and value.count("*") > MAX_STARS:
        raise ValueError(f"{parameter.label} may have at most {MAX_STARS} *.")
    return str(value)


def _number(parameter: Parameter, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{parameter.label} must be a number.")
    return float(_bounded(parameter, value))


def _whole(parameter: Parameter, value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int | float) or value != value // 1:
        raise ValueError(f"{parameter.label} must be a whole number.")
    return int(_bounded(parameter, value))


def _bounded(parameter: Parameter, value: float) -> float:
    low, high = parameter.minimum, parameter.maximum
    if low is not None and high is not None and not low <= value <= high:
        raise ValueError(f"{parameter.label} must be between {low:,.4g} and {high:,.6g}.")
    return value


def _choice(parameter: Parameter, value: Any) -> str:
    if value not in parameter.choices:
        raise ValueError(f"{parameter.label} must be one of: {', '.join(parameter.choices)}.")
    return str(value)


def _switch(parameter: Parameter, value: Any) -> bool:
    if not isinstance(value, bool):
        raise ValueError(f"{parameter.label} must be true or false.")
    return value


def _list(parameter: Parameter, value: Any) -> tuple[str, ...]:
    if not isinstance(value, list | tuple) or not all(
        isinstance(part, str) and len(part) <= 64 for part in value
    ):
        raise ValueError(f"{parameter.label} must be a list of ids.")
    if len(value) > (parameter.maximum or 0):
        raise ValueError(f"{parameter.label} may have at most {int(parameter.maximum or 0)} entries.")
    return tuple(value)


_READERS: Final = {
    "text": _text,
    "number": _number,
    "whole": _whole,
    "choice": _choice,
    "switch": _switch,
    "list": _list,
}


def _title(rule: Rule) -> str:
    sentence = rule_sentence(rule)
    title = sentence[0].upper() + sentence[1:]
    longest = int(PARAMETER["name"].maximum or 0)
    return title if len(title) <= longest else title[: longest - 1] + "…"
