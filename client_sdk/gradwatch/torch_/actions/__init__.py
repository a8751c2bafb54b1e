"""What a script may have done to its own training: clip, skip, cut the learning rate, stop. Nothing happens unasked."""

from .adaptive import AdaGC, AdaptiveClip
from .clip import clip_grad_norm_, clip_grad_value_
from .guard import Guard, guard
from .parts import CutLR, SkipNonFinite, StopOn
from .record import Action, Budget

__all__ = [
    "Action",
    "AdaGC",
    "AdaptiveClip",
    "Budget",
    "CutLR",
    "Guard",
    "SkipNonFinite",
    "StopOn",
    "clip_grad_norm_",
    "clip_grad_value_",
    "guard",
]
