"""Which settings of a run its share links show, and what of its marks. Pure.

A link shows the configuration, without the keys that the script marked private, those whose names say that they hold a
secret, a person or a host, and those whose values are places on a machine, addresses or keys. A run that doesn't say what is
private (it was stored before there was such a thing, or says it in words that can't be read) shows none of it.
"""

from __future__ import annotations

import fnmatch
import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import lru_cache
from typing import Any, Final

from gradwatch.masks import MASK, is_secret
from gradwatch.protocol import limits

__all__ = ["Sifted", "sift", "sift_mark"]

_PERSONAL: Final = frozenset({
    "argv", "cmd", "cmdline", "command", "cwd", "email", "entity", "home", "host", "hostname", "hosts", "ip", "mail",
    "nodelist", "nodename", "owner", "user", "username", "who",
})  # fmt: skip
"""Words in the name of a key which say that it tells of a person or a machine."""

_MACHINE: Final = re.compile(
    r"""(?:^|[\s=:,;'"(\[|])(?:~\w*)?/[\w.~-]"""  # /data, ~/data, ~ann/data, --out=/tmp/x
    r"""|(?:^|[\s=,;'"(\[|])[A-Za-z]:[\\/]|\\\\\w"""  # C:\data, \\server\share
    r"|[a-z][a-z0-9+.-]*://"  # any address
    r"|[\w.+-]@[A-Za-z][\w-]*[.:]"  # ann@example.org, ann@gpu-3:
    r"|\b\d{1,3}(?:\.\d{1,3}){3}\b"
)
"""Texts that lead to a machine or a person."""

_KEYISH: Final = re.compile(r"\b(?:sk-|hf_|gh[pousr]_|github_pat_|glpat-|xox[abps]-|AKIA|eyJ)[\w-]{8}")
"""What keys of well-known services begin with."""

_WORDS: Final = re.compile(r"[A-Z]?[a-z]+|[A-Z]+(?![a-z])|\d+")


@dataclass(frozen=True, slots=True)
class Sifted:
    """``config`` as links show it. ``private``: the dotted names of what is left out; None where all of it is, because the
    run doesn't say what is private."""

    config: dict[str, Any]
    private: tuple[str, ...] | None


def sift(context: Mapping[str, Any]) -> Sifted:
    """What of a run's captured ``context`` its links show."""
    config, globs = context.get("config") or {}, _readable(context.get("private"))
    if not isinstance(config, dict) or globs is None:
        return Sifted({}, None)
    sieve = _Sieve([glob.casefold() for glob in globs], _names_of(context))
    return Sifted(sieve.mapping(config, ""), tuple(sieve.private))


def sift_mark(data: dict[str, Any], context: Mapping[str, Any]) -> dict[str, Any]:
    """What links show of a mark's ``data``: what they would show of settings of these names and values, in old runs too."""
    globs = _readable(context.get("private")) or []
    return _Sieve([glob.casefold() for glob in globs], _names_of(context)).mapping(data, "")


def _readable(said: object) -> list[str] | None:
    """The patterns that a run says; None where it says none that can be read."""
    if not isinstance(said, list) or len(said) > limits.MAX_PRIVATE:
        return None
    return said if all(isinstance(one, str) and 0 < len(one) <= limits.MAX_NAME for one in said) else None


def _names_of(context: Mapping[str, Any]) -> re.Pattern[str] | None:
    """The host and the account, as words in a value. Short ones are too likely to be something else."""
    host = context.get("host")
    found = [context.get("who"), host.get("name") if isinstance(host, dict) else host]
    names = [re.escape(name) for name in found if isinstance(name, str) and len(name) >= 3]
    return re.compile(rf"(?<!\w)(?:{'|'.join(names)})(?!\w)", re.IGNORECASE) if names else None


@lru_cache(maxsize=8_192)
def _leads_somewhere(text: str) -> bool:
    """To a machine, a person or behind a lock. Configurations of many runs say the same things."""
    return text == MASK or _MACHINE.search(text) is not None or _KEYISH.search(text) is not None


@lru_cache(maxsize=8_192)
def _personal(key: str) -> bool:
    return any(word.casefold() in _PERSONAL for word in _WORDS.findall(key))


class _Sieve:
    """Collects in ``private`` what it leaves out."""

    def __init__(self, globs: list[str], names: re.Pattern[str] | None) -> None:
        self._marked = re.compile("|".join(map(fnmatch.translate, globs))) if globs else None
        self._names = names
        self.private: list[str] = []

    def mapping(self, value: dict[str, Any], path: str) -> dict[str, Any]:
        """``value`` without what is private in it; empty dicts that were not empty are left out too."""
        shown: dict[str, Any] = {}
        for key, item in value.items():
            inner = f"{path}.{key}" if path else key
            if self._hides(key, inner, item):
                self.private.append(inner)
                continue
            kept = self._within(item, inner)
            if kept or not item:
                shown[key] = kept
        return shown

    def _within(self, item: Any, path: str) -> Any:
        if isinstance(item, dict):
            return self.mapping(item, path)
        if isinstance(item, list):
            return [self._within(one, f"{path}.{place}") for place, one in enumerate(item)]
        return item

    def _hides(self, key: str, path: str, value: Any) -> bool:
        """A list is hidden whole if one of its texts would be."""
        if self._marked is not None and (
            self._marked.match(key.casefold()) or self._marked.match(path.casefold())
        ):
            return True
        counts = value is None or isinstance(value, (bool, int, float))
        return (
            is_secret(key, value) or (not counts and _personal(key)) or self._tells(key) or self._tells(value)
        )

    def _tells(self, value: Any) -> bool:
        """Whether a text, or one in a list, leads to a machine, a person or behind a lock."""
        if isinstance(value, list):
            return any(self._tells(one) for one in value)
        if not isinstance(value, str):
            return False
        if self._names is not None and self._names.search(value) is not None:
            return True
        return _leads_somewhere(value)
