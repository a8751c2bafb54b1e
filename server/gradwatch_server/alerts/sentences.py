"""The sentences that people read: what a rule waits for, and what an alert says. One wording for page, message and log."""

from __future__ import annotations

import math

from ..models import Alert, Rule
from .kinds import KIND

TITLES = {
    "global_grad_norm": "the gradient norm",
    "global_grad_norm_clipped": "the gradient norm after clipping",
    "grad_norm": "the gradient norm",
    "loss": "the loss",
    "lr": "the learning rate",
    "loss_scale": "the loss scale",
    "step_time": "the step time",
    "clip_coef": "the clip coefficient",
    "update_ratio": "the update-to-weight ratio",
    "weight_norm": "the weight norm",
}
"""How sentences call a statistic; any other goes by its name."""
_JUDGED = {"mean": "on average over", "min": "at its smallest over", "max": "at its largest over"}


def clean(text: str) -> str:
    """Without control characters and those that turn the direction of writing: names come from anywhere, and one with such
    a character would garble the sentence around it."""
    return "".join(character if character.isprintable() else "�" for character in text)


def number(value: float) -> str:
    """A number for a sentence: four significant digits, thousands as they are, NaN and infinity by their names."""
    if math.isnan(value):
        return "NaN"
    if math.isinf(value):
        return "infinity" if value > 0 else "-infinity"
    if value == int(value) and abs(value) < 1e7:
        return f"{int(value):,}"
    return f"{value:.4g}"


def span(seconds: float) -> str:
    """How long that is, in the largest unit that leaves no fraction: "15 minutes", "90 seconds"."""
    for unit, size in (("hour", 3600), ("minute", 60)):
        if seconds >= size and seconds % size == 0:
            return f"{number(seconds / size)} {unit}{'' if seconds == size else 's'}"
    return f"{number(seconds)} second{'' if seconds == 1 else 's'}"


def rule_sentence(rule: Rule) -> str:
    """What the rule waits for, such as "the gradient norm of blocks.* is above 10 for 3 steps in a row"."""
    sentence = _condition(rule, _subject(rule, rule.tensors or rule.groups))
    if rule.for_steps > 1:
        sentence += f" for {rule.for_steps:,} steps in a row"
    return sentence


def alert_sentence(rule: Rule, alert: Alert) -> str:
    """What happened, where, since when: "The gradient norm of fc.weight and 3 more is above 10 since step 120 (peak 153)."."""
    where = ""
    if rule.scope != "run" and alert.worst:
        where = alert.worst[0] or "the whole model"
        if alert.count > 1:
            where += f" and {alert.count - 1:,} more"
    sentence = _condition(rule, _subject(rule, where))
    peak = (
        ""
        if rule.condition == "silent"
        else f" ({'first' if rule.condition == 'nonfinite' else 'peak'}: {number(alert.peak)})"
    )
    return f"{sentence[0].upper()}{sentence[1:]} since step {alert.opened_step:,}{peak}."


def _subject(rule: Rule, where: str) -> str:
    title = TITLES.get(rule.statistic, clean(rule.statistic))
    if not where:
        return title
    return f"{title} of {'any layer' if where == '*' else clean(where)}"


def _condition(rule: Rule, subject: str) -> str:
    judged = ""
    if KIND[rule.condition].aggregated and rule.window > 1:
        if rule.aggregate == "share":
            judged = f" in {number(100 * rule.share)} % of {rule.window:,} steps"
        elif rule.aggregate != "last":
            judged = f" {_JUDGED[rule.aggregate]} {rule.window:,} steps"
    return KIND[rule.condition].sentence.format(
        subject=subject,
        threshold=number(rule.threshold),
        duration=span(rule.threshold),
        upper=number(rule.upper),
        window=f"{rule.window:,}",
        judged=judged,
        incidents="any problem" if rule.incidents == "*" else rule.incidents,
    )
