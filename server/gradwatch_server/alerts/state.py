"""What is stored of a rule in a run while it is not all normal, so that a restart changes nothing."""

from __future__ import annotations

import json
from dataclasses import asdict
from typing import Final

import numpy as np

from ..models import Alert, RuleState
from .watch import Watch

FRESH: Final = json.dumps({"active": [], "count": [[], []], "fired": [[], []], "alert": None})
"""``data`` of a rule whose series are all normal."""

ALL: Final = ""
"""In place of a rule's id: the state of every rule that has none of its own."""


def watch_state(watch: Watch) -> RuleState:
    """The state as it is now. Lists hold positions within the rule's series, which stay when a run gets more series."""
    fired = np.flatnonzero(watch.ledger.fired)
    busy = np.flatnonzero(watch.instances.count)
    data = {
        "active": np.flatnonzero(watch.instances.active).tolist(),
        "count": [busy.tolist(), watch.instances.count[busy].tolist()],
        "fired": [fired.tolist(), watch.ledger.peaks[fired].tolist()],
        "alert": None if watch.ledger.alert is None else asdict(watch.ledger.alert),
    }
    return RuleState(
        rule_id=watch.rule.id,
        run_id=watch.run_id,
        version=watch.rule.version,
        step=watch.step,
        data=json.dumps(data),
    )


def restore_watch(watch: Watch, state: RuleState) -> None:
    """Brings a fresh watch to the state; rows up to ``state.step`` then count as judged already."""
    data = json.loads(state.data)
    watch.instances.active[data["active"]] = True
    watch.instances.count[data["count"][0]] = data["count"][1]
    watch.ledger.fired[data["fired"][0]] = True
    watch.ledger.peaks[data["fired"][0]] = data["fired"][1]
    if data["alert"] is not None:
        watch.ledger.alert = Alert(**{**data["alert"], "worst": tuple(data["alert"]["worst"])})
    watch.quiet = not bool(watch.instances.busy.any())
    watch.step = watch.judged_to = state.step
    watch.unsure = True
