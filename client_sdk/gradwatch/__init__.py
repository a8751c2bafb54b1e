"""gradwatch: live gradient health for PyTorch training.

::

    import gradwatch

    run = gradwatch.watch(model, project="digits")
    for batch in loader:
        loss = step(batch)
        run.log(loss=loss)
    run.finish()
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from .checking import CheckReport, check
    from .errors import ConfigError, GradwatchError, GradwatchStop
    from .run import Run
    from .torch_.actions import (
        Action,
        AdaGC,
        AdaptiveClip,
        Budget,
        CutLR,
        Guard,
        SkipNonFinite,
        StopOn,
        clip_grad_norm_,
        clip_grad_value_,
        guard,
    )
    from .watching import watch

__version__ = "0.1.0"
__all__ = [
    "Action",
    "AdaGC",
    "AdaptiveClip",
    "Budget",
    "CheckReport",
    "ConfigError",
    "CutLR",
    "GradwatchError",
    "GradwatchStop",
    "Guard",
    "Run",
    "SkipNonFinite",
    "StopOn",
    "__version__",
    "check",
    "clip_grad_norm_",
    "clip_grad_value_",
    "guard",
    "watch",
]

_HOME = {
    **dict.fromkeys(
        (
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
        ),
        "torch_.actions",
    ),
    "CheckReport": "checking",
    "check": "checking",
    "ConfigError": "errors",
    "GradwatchError": "errors",
    "GradwatchStop": "errors",
    "Run": "run",
    "watch": "watching",
}


def __getattr__(name: str) -> Any:
    """Loads public names when they are first used, so that importing a part loads no more than that part."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value = getattr(importlib.import_module(f"{__name__}.{_HOME[name]}"), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    return sorted(__all__)
