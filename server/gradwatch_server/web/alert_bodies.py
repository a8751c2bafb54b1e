"""The bodies of rules and alerts. The OpenAPI schema is made from these and from the table of parameters."""

from __future__ import annotations

from typing import Any, Final

from pydantic import BaseModel, Field

from ..alerts.kinds import PARAMETERS, Parameter
from .bodies import Number, _In

__all__ = [
    "RULE_SCHEMA",
    "Acknowledge",
    "AlertReply",
    "AlertsReply",
    "KindsReply",
    "Mute",
    "PreviewIn",
    "PreviewReply",
    "RuleReply",
    "RulesReply",
]

_JSON_TYPES: Final = {
    "number": "number",
    "whole": "integer",
    "text": "string",
    "choice": "string",
    "switch": "boolean",
    "list": "array",
}


def _schema(parameter: Parameter) -> dict[str, Any]:
    schema: dict[str, Any] = {
        "type": _JSON_TYPES[parameter.type],
        "title": parameter.label,
        "description": parameter.help,
    }
    if parameter.type in ("number", "whole"):
        schema |= {"minimum": parameter.minimum, "maximum": parameter.maximum}
    if parameter.type == "text":
        schema["maxLength"] = parameter.maximum
    if parameter.type == "list":
        schema |= {"items": {"type": "string"}, "maxItems": parameter.maximum}
    if parameter.choices:
        schema["enum"] = list(parameter.choices)
    return schema


RULE_SCHEMA: Final[dict[str, Any]] = {
    "type": "object",
    "properties": {parameter.key: _schema(parameter) for parameter in PARAMETERS},
    "additionalProperties": False,
}
"""What a rule form sends, as a JSON schema."""


class RuleOut(BaseModel):
    """An alert rule."""

    id: str
    name: str
    statistic: str
    tensors: str
    groups: str
    project: str
    run: str
    condition: str
    threshold: float
    upper: float
    window: int
    aggregate: str
    share: float
    for_steps: int
    recover_steps: int
    cooldown_steps: int
    incidents: str
    least: str
    severity: str
    channels: list[str]
    enabled: bool
    source: str = Field(description="`default` for those that are there from the start.")
    created_at: float
    updated_at: float
    version: int
    sentence: str = Field(description="What it waits for.")
    state: str = Field(
        description="normal, pending, firing or recovering: that of its worst series in any run."
    )


class RuleReply(BaseModel):
    """One rule."""

    rule: RuleOut


class RulesReply(BaseModel):
    """All rules, oldest first."""

    rules: list[RuleOut]


class KindOut(BaseModel):
    """What a rule can wait for."""

    condition: str
    label: str
    sentence: str
    parameters: list[str]
    help: str
    aggregated: bool
    compares: bool
    defaults: list[tuple[str, Any]]
    least_window: int


class ParameterOut(BaseModel):
    """One field of the form."""

    key: str
    label: str
    type: str
    default: Any
    minimum: float | None
    maximum: float | None
    choices: list[str]
    required: bool
    help: str


class ChannelName(BaseModel):
    """A place that messages can go to."""

    id: str
    name: str


class KindsReply(BaseModel):
    """Everything that a rule form is made of."""

    kinds: list[KindOut]
    parameters: list[ParameterOut]
    common: list[str] = Field(description="Parameters that every kind has.")
    channels: list[ChannelName]


class PreviewIn(_In):
    """A rule as a form has it, and the run to try it on."""

    rule: dict[str, Any] = Field(json_schema_extra=RULE_SCHEMA)
    run: str = Field(max_length=512)
    others: bool = Field(
        default=False, description="Try it on the newest finished runs of the same project, too."
    )


class OthersOut(BaseModel):
    """How the rule does on finished runs."""

    runs: int = Field(description="Runs that it was tried on, at most ten.")
    fired: int = Field(description="Runs in which it would have fired.")


class FiringOut(BaseModel):
    """One alert that would have opened."""

    step: int
    value: Number
    series: str
    count: int
    cleared: int | None


class PreviewReply(BaseModel):
    """What the rule would have said of the run."""

    fired: list[FiringOut] = Field(description="The first hundred.")
    count: int
    series: int = Field(description="How many series of the run the rule is about.")
    from_step: int = Field(description="Judged from this step on,")
    to_step: int = Field(description="up to this one.")
    complete: bool = Field(
        description="Whether that is the whole run; false too when there are very many firings."
    )
    sentence: str
    suggested: float | None = Field(description="A threshold made from the run's own percentiles.")
    others: OthersOut | None


class AlertOut(BaseModel):
    """A rule that fired in a run. Open until `cleared_step` is set."""

    id: str
    rule_id: str
    run_id: str
    rule_name: str
    severity: str
    statistic: str
    condition: str
    threshold: float
    opened_step: int
    opened_time: float
    cleared_step: int | None
    cleared_time: float | None
    peak: Number
    count: int = Field(description="How many series fire or fired in it.")
    worst: list[str]
    acknowledged: bool
    note: str = Field(description="Empty to share links.")
    sentence: str
    reason: str = Field(description="Why it closed, when the numbers are not the reason.")
    muted_until: float | None


class AlertReply(BaseModel):
    """One alert."""

    alert: AlertOut


class AlertsReply(BaseModel):
    """Alerts, newest first."""

    alerts: list[AlertOut]


class Acknowledge(_In):
    """Somebody takes care of it."""

    note: str = Field(default="", max_length=2_000)


class Mute(_In):
    """No messages for a while."""

    seconds: float | None = Field(
        ge=0, le=366 * 86_400, description="For so long from now; 0 or null ends it."
    )
