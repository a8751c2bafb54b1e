"""Torch's global hooks around optimizer steps: one for all that gradwatch has to do there, kept out of compiled code.

Torch goes through its hooks in a dictionary, so one that is added or removed while a step is in progress, in another thread or in
a hook itself, would break that step with an error. Ours are in a tuple that is replaced instead.
"""

from __future__ import annotations

import functools
import threading
from collections.abc import Callable
from typing import Any, Final

import torch
from torch.optim import Optimizer
from torch.optim.optimizer import register_optimizer_step_post_hook, register_optimizer_step_pre_hook

__all__ = ["after_steps", "before_steps"]

Hook = Callable[[Optimizer, Any, Any], Any]
"""As optimizers call it: ``(optimizer, args, kwargs)`` of a step."""


class _Hooks:
    """Those before or after steps. Torch knows of them while there are any."""

    def __init__(self, register: Callable[[Hook], Any]) -> None:
        self._register = register
        self._lock = threading.Lock()
        self._handle: Any = None
        self.now: tuple[Hook, ...] = ()

    def add(self, hook: Hook, *, first: bool = False) -> Callable[[], None]:
        """Calls ``hook`` at each step, before all others if ``first``; gives what ends it, which may be called again."""
        with self._lock:
            self.now = (hook, *self.now) if first else (*self.now, hook)
            if self._handle is None:
                self._handle = self._register(_untraced(self))
        return functools.partial(self._remove, hook)

    def _remove(self, hook: Hook) -> None:
        with self._lock:
            self.now = tuple(other for other in self.now if other is not hook)
            if not self.now and self._handle is not None:
                self._handle.remove()
                self._handle = None


_before: Final = _Hooks(register_optimizer_step_pre_hook)
_after: Final = _Hooks(register_optimizer_step_post_hook)
before_steps: Final = _before.add
after_steps: Final = _after.add


def _untraced(hooks: _Hooks) -> Hook:
    """Calls all ``hooks``, kept out of compiled code; adds no graph break there, since torch breaks the graph at a step's hooks
    anyway.

    As ``torch.compiler.disable``, without what that costs at every call: outside compiled code hooks are called directly.
    """

    def call(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        for hook in hooks.now:
            hook(optimizer, args, kwargs)

    disable: Any = torch.compiler.disable
    disabled: Hook = disable(call)
    compiling, skip = _compiling(), _skip()
    if compiling is None or skip is None:
        return disabled

    def untraced(optimizer: Optimizer, args: Any, kwargs: Any) -> None:
        if compiling() is None:
            for hook in hooks.now:
                hook(optimizer, args, kwargs)
        else:
            disabled(optimizer, args, kwargs)

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
