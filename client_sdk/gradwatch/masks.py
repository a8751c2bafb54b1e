"""Anything to plain JSON values, with secrets masked and sizes bounded, before it leaves the machine."""

from __future__ import annotations

import dataclasses
import math
import re
from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

from .errors import ConfigError
from .protocol.limits import MAX_NAME, MAX_PRIVATE

__all__ = ["MASK", "is_secret", "mask_argv", "masked", "plain", "private_globs"]

MASK: Final = "***"
_SECRET: Final = re.compile(r"token|key|secret|password|passwd|credential|auth", re.IGNORECASE)
_GRAVE: Final = re.compile(r"secret|password|passwd|credential", re.IGNORECASE)
_HARMLESS: Final = re.compile(
    r"tokeni[sz]|^authors?$|keyword|keypoint|keyframe|(bos|eos|pad|unk|mask|sep|cls)_token", re.IGNORECASE
)
"""Words of language models and vision that only look like secrets."""

_DEPTH: Final = 8
_ITEMS: Final = 512
_TEXT: Final = 4_096


def is_secret(name: str, value: object) -> bool:
    """Whether ``value`` must not be sent under this name. Numbers are counts and sizes (``max_tokens``, ``num_key_heads``)
    unless the name says otherwise; what is empty hides nothing."""
    if value in (None, "", False) or _HARMLESS.search(name):
        return False
    number = isinstance(value, (int, float)) or (
        isinstance(value, str) and re.fullmatch(r"[-+.\de]{1,6}", value)
    )
    return bool((_GRAVE if number else _SECRET).search(name))


def plain(value: Any, depth: int = _DEPTH) -> Any:
    """``value`` as JSON can say it: dicts, lists, numbers, text, None; anything else as its text. Bounded in all directions."""
    if value is None or isinstance(value, (bool, int)):
        return value
    if isinstance(value, float):
        return (
            value
            if math.isfinite(value)
            else "NaN"
            if math.isnan(value)
            else "Infinity"
            if value > 0
            else "-Infinity"
        )
    if isinstance(value, str):
        return value[:_TEXT]
    if depth <= 0:
        return _text(value)
    inner = _as_mapping(value)
    if inner is not None:
        items = list(inner.items())[:_ITEMS]
        return {str(key)[:200]: plain(item, depth - 1) for key, item in items}
    if isinstance(value, (list, tuple, set, frozenset)):
        return [plain(item, depth - 1) for item in list(value)[:_ITEMS]]
    return _number_or_text(value, depth)


def masked(value: Any) -> Any:
    """A plain value with everything under a secret-looking name replaced by :data:`MASK`."""
    if isinstance(value, dict):
        return {key: MASK if is_secret(key, item) else masked(item) for key, item in value.items()}
    if isinstance(value, list):
        return [masked(item) for item in value]
    return value


def private_globs(given: str | Sequence[str]) -> list[str]:
    """The patterns of settings that share links don't show: ``"data_path"``, ``"*token*"``, ``"data.*"``.

    Raises:
        ConfigError: they are no texts, too long or too many.
    """
    globs = [given] if not isinstance(given, Iterable) or isinstance(given, str) else list(given)
    if len(globs) > MAX_PRIVATE or not all(
        isinstance(one, str) and 0 < len(one) <= MAX_NAME for one in globs
    ):
        raise ConfigError(
            f"private takes up to {MAX_PRIVATE} names or patterns of settings, such as private=('data_path', '*url*')"
        )
    return globs


def mask_argv(argv: Sequence[str]) -> list[str]:
    """A command line without the values of ``--api-key X``, ``--token=X`` and ``password=X``."""
    shown: list[str] = []
    option = ""
    for word in argv:
        name, equals, value = word.partition("=")
        if equals and is_secret(_plain_name(name), value):
            shown.append(f"{name}={MASK}")
        elif option and not word.startswith("-") and is_secret(_plain_name(option), word):
            shown.append(MASK)
        else:
            shown.append(word[:_TEXT])
        option = word if word.startswith("-") and not equals else ""
    return shown


def _plain_name(option: str) -> str:
    return option.lstrip("-").replace("-", "_")


def _as_mapping(value: Any) -> Mapping[Any, Any] | None:
    if isinstance(value, Mapping):
        return value
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return {f.name: getattr(value, f.name, None) for f in dataclasses.fields(value)}
    return None


def _number_or_text(value: Any, depth: int) -> Any:
    """numpy and torch scalars and arrays by duck typing, everything else as text."""
    shape = getattr(value, "shape", None)
    tolist = getattr(value, "tolist", None)
    if isinstance(shape, tuple) and callable(tolist):
        size = math.prod(shape)
        return plain(tolist(), depth - 1) if size <= _ITEMS else f"{type(value).__name__}{list(shape)}"
    if isinstance(value, Iterable) and not hasattr(value, "__next__") and hasattr(value, "__len__"):
        return [plain(item, depth - 1) for _, item in zip(range(_ITEMS), value, strict=False)]
    return _text(value)


def _text(value: Any) -> str:
    return str(value)[:_TEXT]
