"""The help page of the detectors, written from the tables, so that page and code cannot differ."""

from __future__ import annotations

from .cause_table import CAUSES
from .table import DETECTORS, KINDS

__all__ = ["detectors_page"]

_HEAD = """# What is watched, and how

Each run is judged step by step, the same way live, after a restart, and over a stored run. A *detector* finds one thing; what it
finds becomes an *incident* of one *kind*. Incidents that belong together are one incident, and a later one that follows from an
earlier one says so.

**How grave.** *info* is a remark on the timeline, *warning* wants a look today, *critical* wants one now. What only gradients say
opens as info and rises when the loss, the updates or a second detector agree: gradients of healthy runs jump often.

**What is normal.** Norms are compared in log2 with a robust centre and scale of their own past. A value never judges itself, and
NaN or Inf is never learnt. A `phase` or `restart` mark starts a new normal: `run.phase("finetune")`.
"""


def detectors_page() -> str:
    """The page as Markdown: kinds, detectors with what they need, and causes."""
    lines = [
        _HEAD,
        "## Kinds of incidents",
        "",
        "| kind | in rules and code | what it means | more |",
        "|---|---|---|---|",
    ]
    lines += [f"| {k.label} | `{k.key}` | {k.sentence} | [{k.help}]({k.help}.md) |" for k in KINDS.values()]
    lines += ["", "## Detectors", "", "| detector | fires when | needs | how grave |", "|---|---|---|---|"]
    for row in DETECTORS:
        needs = ", ".join(f"`{n}`" for n in row.needs) or "nothing"
        lines.append(f"| {row.label} | {row.sentence} | {needs} | {row.severity} |")
    lines += [
        "",
        "## Causes that are weighed",
        "",
        "| cause | signs for it | signs against it |",
        "|---|---|---|",
    ]
    for cause in CAUSES:
        plus = "; ".join(sign.text for sign in cause.supporting)
        minus = "; ".join(sign.text for sign in cause.contradicting) or "-"
        lines.append(f"| [{cause.label}]({cause.help}.md) | {plus} | {minus} |")
    lines += [
        "",
        "A cause's confidence is the weight of the signs found for it, less that of the signs against it, over all that could speak",
        "for it: below 0.4 it is low, and the incident says that we are unsure.",
        "",
    ]
    return "\n".join(lines)
