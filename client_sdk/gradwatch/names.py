"""Names and ids of runs: short, readable, unique. Randomness is an argument."""

from __future__ import annotations

import base64
from collections.abc import Callable
from typing import Final

__all__ = ["run_id", "run_key", "run_name"]

_MOODS: Final = [
    "amber",
    "bold",
    "brave",
    "brisk",
    "calm",
    "clear",
    "cosy",
    "crisp",
    "dapper",
    "eager",
    "early",
    "fair",
    "fleet",
    "fresh",
    "gentle",
    "glad",
    "golden",
    "happy",
    "keen",
    "kind",
    "light",
    "lively",
    "lucky",
    "mellow",
    "merry",
    "neat",
    "noble",
    "patient",
    "plain",
    "proud",
    "quick",
    "quiet",
    "ready",
    "rosy",
    "sharp",
    "silver",
    "sleek",
    "smooth",
    "snug",
    "soft",
    "solid",
    "spry",
    "steady",
    "still",
    "sunny",
    "swift",
    "tidy",
    "tranquil",
    "vivid",
    "warm",
    "wise",
    "witty",
    "young",
]
_ANIMALS: Final = [
    "badger",
    "beaver",
    "bison",
    "crane",
    "curlew",
    "deer",
    "dolphin",
    "dove",
    "eagle",
    "egret",
    "falcon",
    "finch",
    "fox",
    "gecko",
    "gull",
    "hare",
    "hawk",
    "heron",
    "ibex",
    "ibis",
    "jay",
    "kestrel",
    "koala",
    "lark",
    "lemur",
    "lynx",
    "magpie",
    "marten",
    "mole",
    "moose",
    "newt",
    "ocelot",
    "orca",
    "osprey",
    "otter",
    "owl",
    "panda",
    "pike",
    "plover",
    "puffin",
    "quail",
    "raven",
    "robin",
    "salmon",
    "seal",
    "shrew",
    "sparrow",
    "stoat",
    "stork",
    "swan",
    "swift",
    "tapir",
    "tern",
    "toad",
    "trout",
    "vole",
    "wren",
]


def run_name(random_bytes: Callable[[int], bytes]) -> str:
    """Such as ``calm-otter-7f3``: about 11 million of them."""
    raw = random_bytes(6)
    mood = _MOODS[int.from_bytes(raw[:2], "big") % len(_MOODS)]
    animal = _ANIMALS[int.from_bytes(raw[2:4], "big") % len(_ANIMALS)]
    return f"{mood}-{animal}-{raw[4:].hex()[:3]}"


def run_id(random_bytes: Callable[[int], bytes]) -> str:
    """Sixteen lower-case base32 characters (80 bits); safe in a URL and as a file name."""
    return base64.b32encode(random_bytes(10)).decode().lower()


def run_key(random_bytes: Callable[[int], bytes]) -> str:
    """The secret that lets a later process write to the same run: 32 hex digits."""
    return random_bytes(16).hex()
