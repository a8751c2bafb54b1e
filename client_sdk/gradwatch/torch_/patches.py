"""The global patches: torch's clipping functions and ``GradScaler``. There while somebody listens, gone after.

A wrapped function does exactly what torch's does: it runs torch's own code (for the norm functions, that code with the
name ``torch`` bound to a :class:`_Eavesdropper`, so that the norms it computes anyway need not be computed twice), or in the
ordinary case the same operations without what is around them (:mod:`~.straight`).
"""

from __future__ import annotations

import functools
import sys
import threading
import types
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final, TypeAlias

import torch
from torch import Tensor
from torch.amp.grad_scaler import GradScaler
from torch.nn.utils import clip_grad
from torch.optim import Optimizer

from . import straight

__all__ = ["Listener", "clipping", "listen"]

Function: TypeAlias = Callable[..., Any]

_HALF: Final = (torch.float16, torch.bfloat16)


@dataclass(frozen=True, eq=False, kw_only=True)
class Listener:
    """What capture wants to hear. Calls come from any thread that trains a model, watched or not; none may raise."""

    on_norms: Callable[[Sequence[Tensor], Tensor | None, bool, Sequence[Tensor] | None], object]
    """``(grads, norms, clipping, parameters)``: these gradients are there, not yet clipped. ``norms [len(grads)]`` are
    their L2 norms if torch has just computed them, and in full precision; ``clipping`` is False when somebody only asks
    for the total norm. ``parameters [len(grads)]`` are theirs in the same order, None where that isn't known: whoever
    listens must not look for them among its own then, unless this is the thread that trains these (a backward in another
    one may be writing their gradients)."""

    on_clip_norm: Callable[[float, Tensor], object]
    """``(limit, total)``: the gradients last heard of were multiplied by ``min(1, limit / (total + 1e-6))``."""

    on_clip: Callable[[Sequence[Tensor], list[Tensor], Tensor, float, Tensor], object]
    """``(parameters, grads, norms, limit, total)``: these gradients, those of ``parameters`` that have one and in their order, are
    there and are about to be multiplied by ``min(1, limit / (total + 1e-6))``. As ``on_norms`` and ``on_clip_norm`` together."""

    on_clip_value: Callable[[], object]
    """The gradients last heard of were clipped element by element."""

    on_unscale: Callable[[GradScaler, Optimizer], object]
    """The gradients of the optimizer are about to be divided by the loss scale."""

    on_scaler_step: Callable[[GradScaler, Optimizer], object]
    """``scaler.step(optimizer)`` begins."""

    on_scaler_stepped: Callable[[Optimizer], object]
    """``scaler.step(optimizer)`` has ended; the optimizer's own hooks were not called if the step was skipped."""


_lock = threading.Lock()
_listeners: list[Listener] = []
_undo: list[Callable[[], None]] = []


def listen(listener: Listener) -> Callable[[], None]:
    """Calls ``listener`` until the returned function is called (which may be done again without harm)."""
    with _lock:
        if not _listeners:
            _install()
        _listeners.append(listener)

    def stop() -> None:
        with _lock:
            if listener not in _listeners:
                return
            _listeners.remove(listener)
            if not _listeners:
                while _undo:
                    _undo.pop()()

    return stop


def _install() -> None:
    wrappers: dict[int, tuple[Function, Function]] = {}
    for name, wrap in _CLIPPING.items():
        original = getattr(torch.nn.utils, name, None)
        if original is not None:
            wrappers[id(original)] = original, wrap(original)
    _replace_everywhere(wrappers)
    _replace_method("step", _scaler_step)
    _replace_method("unscale_", _scaler_unscale)


def _replace_everywhere(wrappers: dict[int, tuple[Function, Function]]) -> None:
    """In torch, and wherever ``from torch.nn.utils import ...`` has put the same function. By ``id(original)``: the function and
    what takes its place.

    A process with torch has thousands of modules with hundreds of thousands of names: all are looked through once, and most of
    that without running Python for each name.
    """
    for module in list(sys.modules.values()):
        names = getattr(module, "__dict__", None)
        if not isinstance(names, dict) or wrappers.keys().isdisjoint(map(id, list(names.values()))):
            continue
        for name, value in list(names.items()):
            private = module is clip_grad and name.startswith("_")
            if id(value) in wrappers and not private:
                original, wrapper = wrappers[id(value)]
                names[name] = wrapper
                _undo.append(functools.partial(_restore, names, name, wrapper, original))


def _restore(names: dict[str, Any], name: str, wrapper: Function, original: Function) -> None:
    if names.get(name) is wrapper:
        names[name] = original


def _replace_method(name: str, make: Callable[[Function], Function]) -> None:
    original = getattr(GradScaler, name)
    wrapper = make(original)
    setattr(GradScaler, name, wrapper)

    def undo() -> None:
        if getattr(GradScaler, name) is wrapper:
            setattr(GradScaler, name, original)

    _undo.append(undo)


class _Eavesdropper:
    """Stands for the name ``torch`` inside torch's own clipping code, and hears the norms that are computed there.

    That code takes the L2 norm of each gradient, stacks them, and takes the norm of the stack; all before it clips.
    """

    def __init__(self, origin: Any) -> None:
        self._origin = origin

    def __getattr__(self, name: str) -> Any:
        value = getattr(self._origin, name)
        if name == "linalg":
            value = self.linalg = _Eavesdropper(value)
        return value

    def _foreach_norm(self, tensors: list[Tensor], *args: Any, **kwargs: Any) -> Any:
        norms = torch._foreach_norm(tensors, *args, **kwargs)
        _hearing.hear(tensors, norms[0])
        return norms

    def vector_norm(self, tensor: Tensor, *args: Any, **kwargs: Any) -> Any:
        norm = torch.linalg.vector_norm(tensor, *args, **kwargs)
        if tensor is not _hearing.stacked:
            _hearing.hear([tensor], norm)
        return norm

    def stack(self, tensors: Sequence[Tensor]) -> Tensor:
        norms = torch.stack(tensors)  # type: ignore[arg-type]
        _hearing.stacked = norms
        if len(_hearing.grads) == len(norms):
            _hearing.pass_on(norms)
        return norms


class _Hearing(threading.local):
    """What the call in progress has told so far."""

    def __init__(self) -> None:
        self.parameters: list[Tensor] | None = None
        self.clipping = False
        self.forget()

    def forget(self) -> None:
        """The call is over."""
        self.grads: list[Tensor] = []
        self.groups = 0
        self.rounded = False
        self.stacked: Tensor | None = None

    def hear(self, grads: list[Tensor], norm: Tensor) -> None:
        """The norms of some gradients of one type were computed; ``norm`` is one of them."""
        self.grads = self.grads + grads if self.groups else grads
        self.groups += 1
        self.rounded = self.rounded or norm.dtype in _HALF

    def pass_on(self, norms: Tensor) -> None:
        """All are known."""
        theirs = self._owners()
        known = None if self.rounded else norms
        for listener in list(_listeners):
            listener.on_norms(self.grads, known, self.clipping, theirs)

    def _owners(self) -> list[Tensor] | None:
        """The parameters in the order of their gradients, which torch groups by type; None where only gradients were given."""
        if self.parameters is None or len(self.parameters) == len(self.grads) and self.groups == 1:
            return self.parameters
        owners = {id(parameter.grad): parameter for parameter in self.parameters}
        return [owners[id(grad)] for grad in self.grads]


_hearing = _Hearing()


def _call_aloud(
    aloud: Function, parameters: list[Tensor] | None, args: tuple[Any, ...], kwargs: dict[str, Any]
) -> Any:
    _hearing.clipping = parameters is not None
    _hearing.parameters = parameters
    try:
        return aloud(*args, **kwargs)
    finally:
        _hearing.forget()
        _hearing.parameters = None


def _eavesdropping(original: Function) -> Function | None:
    """torch's function with :class:`_Eavesdropper` inside, or None if it isn't built as expected."""
    inner = getattr(original, "__wrapped__", None)
    if not isinstance(inner, types.FunctionType) or inner.__globals__ is not vars(clip_grad):
        return None
    names = dict(inner.__globals__, torch=_Eavesdropper(torch))
    total = names.get("_get_total_norm")
    total_inner = getattr(total, "__wrapped__", None)
    if isinstance(total_inner, types.FunctionType):
        names["_get_total_norm"] = _rebuilt(total_inner, names)
    return torch.no_grad()(_rebuilt(inner, names))


def _rebuilt(function: types.FunctionType, names: dict[str, Any]) -> Function:
    rebuilt = types.FunctionType(
        function.__code__, names, function.__name__, function.__defaults__, function.__closure__
    )
    rebuilt.__kwdefaults__ = function.__kwdefaults__
    return rebuilt


def _tensors(args: tuple[Any, ...], kwargs: dict[str, Any], name: str) -> tuple[Any, list[Tensor]]:
    """The first argument, as given or as a list if it was an iterator, and its tensors."""
    given = args[0] if args else kwargs[name]
    if isinstance(given, Tensor):
        return given, [given]
    tensors = list(given)
    return (tensors if tensors else given), tensors


def _argument(
    args: tuple[Any, ...], kwargs: dict[str, Any], position: int, name: str, default: Any = None
) -> Any:
    return args[position] if len(args) > position else kwargs.get(name, default)


def _passed(
    args: tuple[Any, ...], kwargs: dict[str, Any], name: str, first: Any
) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return ((first, *args[1:]), kwargs) if args else (args, {**kwargs, name: first})


def clipping(parameters: Sequence[Tensor], clip: Callable[[], object]) -> None:
    """Calls ``clip``, which clips the gradients of these in a way of its own; who listens measures before and after."""
    _announce(parameters)
    clip()
    for listener in list(_listeners):
        listener.on_clip_value()


def _announce(parameters: Sequence[Tensor]) -> None:
    """Says that the gradients of these will be clipped; nobody has their norms yet."""
    if not _listeners:
        return
    theirs = [parameter for parameter in parameters if parameter.grad is not None]
    grads = [grad for parameter in theirs if (grad := parameter.grad) is not None]
    for listener in list(_listeners):
        listener.on_norms(grads, None, True, theirs)


def _clip_straight(parameters: list[Tensor], grads: list[Tensor], limit: float) -> Tensor:
    norms, total = straight.norms_and_total(grads)
    for listener in _listeners[:]:
        listener.on_clip(parameters, grads, norms, limit, total)
    straight.multiply(grads, limit, total)
    return total


def _wrap_clip_norm(original: Function) -> Function:
    aloud = _eavesdropping(original)
    plain = aloud is not None and straight.agrees(original)

    @functools.wraps(original)
    def clip_grad_norm_(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or not _listeners:
            return original(*args, **kwargs)
        first, parameters = _tensors(args, kwargs, "parameters")
        limit = straight.limit_of(args, kwargs) if plain else None
        grads = None if limit is None else straight.alike(parameters)
        if limit is not None and grads is not None:
            return _clip_straight(parameters, grads, limit)
        args, kwargs = _passed(args, kwargs, "parameters", first)
        l2 = float(_argument(args, kwargs, 2, "norm_type", 2.0)) == 2.0
        if aloud is not None and l2:
            total = _call_aloud(aloud, parameters, args, kwargs)
        else:
            _announce(parameters)
            total = original(*args, **kwargs)
        limit = float(_argument(args, kwargs, 1, "max_norm"))
        for listener in list(_listeners):
            listener.on_clip_norm(limit, total)
        return total

    return clip_grad_norm_


def _wrap_total_norm(original: Function) -> Function:
    aloud = _eavesdropping(original)

    @functools.wraps(original)
    def get_total_norm(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or not _listeners:
            return original(*args, **kwargs)
        first, tensors = _tensors(args, kwargs, "tensors")
        args, kwargs = _passed(args, kwargs, "tensors", first)
        if aloud is not None and float(_argument(args, kwargs, 1, "norm_type", 2.0)) == 2.0:
            return _call_aloud(aloud, None, args, kwargs)
        for listener in list(_listeners):
            listener.on_norms(tensors, None, False, None)
        return original(*args, **kwargs)

    return get_total_norm


def _wrap_clip_with_norm(original: Function) -> Function:
    @functools.wraps(original)
    def clip_grads_with_norm_(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or not _listeners:
            return original(*args, **kwargs)
        first, parameters = _tensors(args, kwargs, "parameters")
        args, kwargs = _passed(args, kwargs, "parameters", first)
        _announce(parameters)
        result = original(*args, **kwargs)
        limit = float(_argument(args, kwargs, 1, "max_norm"))
        total = _argument(args, kwargs, 2, "total_norm")
        for listener in list(_listeners):
            listener.on_clip_norm(limit, total)
        return result

    return clip_grads_with_norm_


def _wrap_clip_value(original: Function) -> Function:
    @functools.wraps(original)
    def clip_grad_value_(*args: Any, **kwargs: Any) -> Any:
        if torch.compiler.is_compiling() or not _listeners:
            return original(*args, **kwargs)
        first, parameters = _tensors(args, kwargs, "parameters")
        args, kwargs = _passed(args, kwargs, "parameters", first)
        _announce(parameters)
        result = original(*args, **kwargs)
        for listener in list(_listeners):
            listener.on_clip_value()
        return result

    return clip_grad_value_


_CLIPPING: Final[dict[str, Callable[[Function], Function]]] = {
    "clip_grad_norm_": _wrap_clip_norm,
    "clip_grad_value_": _wrap_clip_value,
    "get_total_norm": _wrap_total_norm,
    "clip_grads_with_norm_": _wrap_clip_with_norm,
}


def _scaler_step(original: Function) -> Function:
    @functools.wraps(original)
    def step(self: GradScaler, optimizer: Optimizer, *args: Any, **kwargs: Any) -> Any:
        listeners = list(_listeners) if self.is_enabled() else []
        for listener in listeners:
            listener.on_scaler_step(self, optimizer)
        result = original(self, optimizer, *args, **kwargs)
        for listener in listeners:
            listener.on_scaler_stepped(optimizer)
        return result

    return step


def _scaler_unscale(original: Function) -> Function:
    @functools.wraps(original)
    def unscale_(self: GradScaler, optimizer: Optimizer) -> Any:
        for listener in list(_listeners) if self.is_enabled() else []:
            listener.on_unscale(self, optimizer)
        return original(self, optimizer)

    return unscale_
