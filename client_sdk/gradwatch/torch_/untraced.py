"""Keeping hooks out of compiled code."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch.optim import Optimizer

__all__ = ["untraced"]

Hook = Callable[[Optimizer, Any, Any], Any]
"""As optimizers call it: ``(optimizer, args, kwargs)`` of a step."""


def untraced(hook: Hook) -> Hook:
    """``hook`` kept out of compiled code; adds no graph break there, since torch breaks the graph at a step's hooks anyway.

    As ``torch.compiler.disable(hook)``, without what that costs at every call: outside compiled code the hook is called
    directly.
    """
    disable: Any = torch.compiler.disable
    disabled: Hook = disable(hook)
    compiling, skip = _compiling(), _skip()
    if compiling is None or skip is None:
        return disabled

    def untraced(optimizer: Optimizer, args: Any, kwargs: Any) -> Any:
        return (hook if compiling() is None else disabled)(optimizer, args, kwargs)

    skip(untraced.__code__)
    marks = vars(untraced)
    marks.update(vars(disabled))
    if "_torchdynamo_wrapper_id" in marks:
        marks["_torchdynamo_wrapper_id"] = id(untraced)
    return untraced


def _compiling() -> Callable[[], Any] | None:
    """What tells whether code that runs now would be compiled: None if not."""
    try:
        from torch._C._dynamo import eval_frame
    except ImportError:
        return None
    return getattr(eval_frame, "get_eval_frame_callback", None)


def _skip() -> Callable[[Any], None] | None:
    """What keeps the compiler from a function of its own, not from those that it calls."""
    try:
        from torch._dynamo import eval_frame
    except ImportError:
        return None
    return getattr(eval_frame, "skip_code", None)
