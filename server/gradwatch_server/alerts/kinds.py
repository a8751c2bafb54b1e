"""The rule kinds: one row per condition, one per parameter. Validation, forms and docs are made from these tables."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, Literal

from ..models import Condition


@dataclass(frozen=True, kw_only=True, slots=True)
class Parameter:
    """One field of a rule, as a form shows it and as :mod:`.validation` checks it. Bounds are inclusive."""

    key: str
    label: str
    type: Literal["number", "whole", "text", "choice", "switch", "list"]
    default: Any
    minimum: float | None = None
    maximum: float | None = None
    choices: tuple[str, ...] = ()
    required: bool = False
    help: str = ""


@dataclass(frozen=True, kw_only=True, slots=True)
class Kind:
    """What a rule can wait for.

    ``parameters`` are the keys that mean something for it besides :data:`COMMON`. ``sentence`` tells what the rule says,
    with the rule's fields and ``value`` (the signal it judges) in braces. ``aggregated``: whether ``window`` and
    ``aggregate`` apply to it.
    """

    condition: Condition
    label: str
    sentence: str
    parameters: tuple[str, ...]
    help: str
    aggregated: bool = False
    compares: bool = False
    """Whether it looks at the window before, too."""
    defaults: tuple[tuple[str, Any], ...] = ()
    """Where it starts with other values than :data:`PARAMETERS`."""
    least_window: int = 1


LIMIT: Final = 1e300
"""Thresholds beyond this could not be met, or only by infinity, which "nonfinite" is for."""
HEALTH: Final = "health"
"""What stands for a statistic in rules about incidents."""
MAX_WINDOW: Final = 1_000
MAX_COUNT: Final = 10_000

PARAMETERS: Final[tuple[Parameter, ...]] = (
    Parameter(key="name", label="Name", type="text", default="", maximum=120,
              help="How the alert is called in lists and messages. Left empty, it is made from the rule."),
    Parameter(key="statistic", label="Statistic", type="text", default="global_grad_norm", maximum=512, required=True,
              help="What is watched: global_grad_norm, grad_norm of layers, loss, lr, or any scalar you log."),
    Parameter(key="tensors", label="Layers", type="text", default="", maximum=512,
              help="For a statistic of layers: names with * for any text, such as blocks.*.attn.*; commas between several."),
    Parameter(key="groups", label="Module groups", type="text", default="", maximum=512,
              help="Instead of layers: module paths with *, such as blocks.*; the norm of the whole group is judged."),
    Parameter(key="project", label="Projects", type="text", default="*", maximum=512, required=True,
              help="Project names with *; * is every project."),
    Parameter(key="run", label="Runs", type="text", default="*", maximum=512, required=True,
              help="Run names or ids with *; * is every run."),
    Parameter(key="condition", label="Condition", type="choice", default="above", required=True),
    Parameter(key="threshold", label="Threshold", type="number", default=1.0, minimum=-LIMIT, maximum=LIMIT, required=True),
    Parameter(key="upper", label="Upper end", type="number", default=1.0, minimum=-LIMIT, maximum=LIMIT, required=True,
              help="The band reaches from the threshold up to here."),
    Parameter(key="aggregate", label="Judge", type="choice", default="last",
              choices=("last", "mean", "min", "max", "share"),
              help="The value itself, or the mean, smallest or largest over the window, or the share of its steps that meet the condition."),
    Parameter(key="window", label="Window", type="whole", default=1, minimum=1, maximum=MAX_WINDOW,
              help="How many values are looked at together."),
    Parameter(key="share", label="Share", type="number", default=0.5, minimum=0.001, maximum=1.0,
              help="Part of the window's values that must meet the condition; 0.5 is half."),
    Parameter(key="incidents", label="Incidents", type="text", default="*", maximum=512, required=True,
              help="Kinds of incidents, such as exploding, nonfinite; commas between several; * is any."),
    Parameter(key="least", label="Least severity", type="choice", default="warning", choices=("info", "warning", "critical"),
              help="Incidents below this severity don't count."),
    Parameter(key="for_steps", label="For steps", type="whole", default=1, minimum=1, maximum=MAX_COUNT,
              help="Fires when the condition holds for so many values in a row."),
    Parameter(key="recover_steps", label="Clears after", type="whole", default=10, minimum=1, maximum=MAX_COUNT,
              help="Clears when so many values in a row are fine again."),
    Parameter(key="cooldown_steps", label="Cool-down", type="whole", default=0, minimum=0, maximum=MAX_COUNT,
              help="Firing again within so many steps of clearing opens the same alert again, without a new message."),
    Parameter(key="severity", label="Severity", type="choice", default="warning", choices=("info", "warning", "critical")),
    Parameter(key="channels", label="Notify", type="list", default=(), maximum=50,
              help="Notification channels; none chosen means all of them."),
    Parameter(key="enabled", label="On", type="switch", default=True),
)  # fmt: skip
PARAMETER: Final[dict[str, Parameter]] = {parameter.key: parameter for parameter in PARAMETERS}

COMMON: Final = (
    "name", "statistic", "tensors", "groups", "project", "run", "condition", "for_steps", "recover_steps",
    "cooldown_steps", "severity", "channels", "enabled",
)  # fmt: skip
_AGGREGATION: Final = ("aggregate", "window", "share")

RULE_KINDS: Final[tuple[Kind, ...]] = (
    Kind(condition="above", label="is above", aggregated=True, parameters=("threshold", *_AGGREGATION),
         sentence="{subject} is above {threshold}{judged}", help="The value is greater than the threshold. Infinity is above."),
    Kind(condition="below", label="is below", aggregated=True, parameters=("threshold", *_AGGREGATION),
         sentence="{subject} is below {threshold}{judged}", help="The value is less than the threshold; NaN is not."),
    Kind(condition="outside", label="is outside a band", aggregated=True, parameters=("threshold", "upper", *_AGGREGATION),
         sentence="{subject} is outside {threshold} to {upper}{judged}", help="The value is below the lower or above the upper end."),
    Kind(condition="nonfinite", label="is NaN or infinite", parameters=(),
         sentence="{subject} is not finite", help="The value is NaN or infinite. The only condition that NaN can meet."),
    Kind(condition="rises", label="rises by more than", compares=True, parameters=("threshold", "window"),
         defaults=(("window", 20),), sentence="{subject} rose by more than {threshold} within {window} steps",
         help="Mean of the window minus mean of the window before it."),
    Kind(condition="falls", label="falls by more than", compares=True, parameters=("threshold", "window"),
         defaults=(("window", 20),), sentence="{subject} fell by more than {threshold} within {window} steps",
         help="Mean of the window before minus mean of the window."),
    Kind(condition="grows", label="grows to more than so many times", compares=True, parameters=("threshold", "window"),
         defaults=(("window", 20), ("threshold", 10.0)), sentence="{subject} grew to more than {threshold} times within {window} steps",
         help="Mean of the window divided by the mean of the window before it. 2 means doubled."),
    Kind(condition="shrinks", label="shrinks to less than so many times", compares=True, parameters=("threshold", "window"),
         defaults=(("window", 20), ("threshold", 0.1)), sentence="{subject} shrank to less than {threshold} times within {window} steps",
         help="Mean of the window divided by the mean of the window before it. 0.5 means halved."),
    Kind(condition="unusual", label="is unusually high", compares=True, parameters=("threshold", "window"),
         defaults=(("window", 50), ("threshold", 6.0)), least_window=10, sentence="{subject} is unusually high: more than {threshold} deviations above its last {window} values",
         help="Robust z-score of log2 of the value against median and spread of the window before it; 6 is a good start."),
    Kind(condition="silent", label="stops coming", parameters=("threshold",),
         defaults=(("threshold", 600.0),), sentence="{subject} has not come for more than {duration}",
         help="No value for so many seconds while the run is running or lost."),
    Kind(condition="incident", label="is found wrong by the health engine", parameters=("incidents", "least"),
         defaults=(("statistic", HEALTH),), sentence="the health engine finds: {incidents}",
         help="An incident of these kinds is open. Its severity is the alert's."),
)  # fmt: skip
KIND: Final[dict[str, Kind]] = {kind.condition: kind for kind in RULE_KINDS}
