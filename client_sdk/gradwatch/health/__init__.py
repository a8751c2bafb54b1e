"""The health engine: numbers in, incidents out. Pure numpy: no I/O, no clock, no logging, no torch.

::

    monitor = Monitor(tensors, optimizers=[{"class": "SGD", "lr": 0.1}])
    for incident in monitor.observe(Observation.of_arrays(steps, tensor={"grad_norm": norms}, run={"loss": losses})):
        print(incident.severity, incident.sentence)

The same code runs live in the server, in a back-test over a stored run, and in a notebook.
"""

from .cause_table import CAUSES
from .causes import Cause
from .effects import Effect, changes, effect_of
from .incidents import CauseFound, Evidence, Finding, Incident, Origin, Remedy, Share, from_plain
from .layout import Layout
from .monitor import FRAME_STATISTICS, Monitor
from .observation import MarkPoint, Observation, Series
from .remedies import REMEDIES
from .scores import WhatIf, what_if
from .state import from_bytes, to_bytes
from .table import DETECTORS, KINDS, Detector, KindInfo

__all__ = [
    "CAUSES",
    "DETECTORS",
    "FRAME_STATISTICS",
    "KINDS",
    "REMEDIES",
    "Cause",
    "CauseFound",
    "Detector",
    "Effect",
    "Evidence",
    "Finding",
    "Incident",
    "KindInfo",
    "Layout",
    "MarkPoint",
    "Monitor",
    "Observation",
    "Origin",
    "Remedy",
    "Series",
    "Share",
    "WhatIf",
    "changes",
    "effect_of",
    "from_bytes",
    "from_plain",
    "to_bytes",
    "what_if",
]
