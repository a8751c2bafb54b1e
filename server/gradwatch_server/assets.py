"""Templates, static files and documentation, found in a checkout or an installed package, and served compressed."""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import importlib.util
import json
import mimetypes
import os
import posixpath
import re
import threading
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final, TypeAlias

import brotli

__all__ = ["Asset", "Assets", "Look", "find"]

Stamp: TypeAlias = tuple[int, int]
"""Time of the last change in ns, and bytes."""

_HERE: Final = Path(__file__).parent
_COMPRESSIBLE: Final = ("text/", "application/javascript", "application/json", "image/svg+xml")
_SMALL: Final = 1_024
"""Bytes below which compression isn't worth it."""

_BUNDLE: Final = "dist"
_BUNDLED_FROM: Final = ("js/", "css/")

_IMPORT: Final = re.compile(r'^(?:import|export)\b[^"]*?from "(\.[^"]+)";', re.MULTILINE)
_TYPES: Final = {
    ".js": "text/javascript",
    ".css": "text/css",
    ".svg": "image/svg+xml",
    ".json": "application/json",
}


def find(name: str) -> Path:
    """The folder ``templates``, ``static`` or ``docs``: inside the installed package, or beside it in a checkout."""
    places = [_HERE / name, _HERE.parent / name, _HERE.parents[1] / name]
    return next((place for place in places if place.is_dir()), places[0])


@dataclass(slots=True)
class Asset:
    """One file. Compressed forms are made when they are first asked for, and kept."""

    body: bytes
    media_type: str
    _packed: dict[str, bytes] = field(default_factory=dict)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def encoded(self, accepted: str) -> tuple[bytes, str]:
        """The body and its ``Content-Encoding`` ("" for none), for an ``Accept-Encoding`` header. May take a while."""
        wanted = {part.split(";")[0].strip() for part in accepted.split(",")}
        if len(self.body) < _SMALL or not self.media_type.startswith(_COMPRESSIBLE):
            return self.body, ""
        for name, pack in _PACKERS.items():
            if name in wanted:
                with self._lock:
                    if name not in self._packed:
                        self._packed[name] = pack(self.body)
                return self._packed[name], name
        return self.body, ""


_PACKERS: Final[dict[str, Callable[[bytes], bytes]]] = {
    # Up to 9 it takes 0.1 s per MB and the first visitor hardly waits; 11 takes twenty times as long for the last 8 %.
    "br": lambda body: brotli.compress(body, quality=9 if len(body) < 1_000_000 else 6),
    "gzip": lambda body: gzip.compress(body, 6, mtime=0),
}


@dataclass(frozen=True, slots=True)
class Look:
    """The folder as it was found for a page: what the page links to."""

    version: str
    """Ten characters that change when any file does."""
    stamps: Mapping[str, Stamp]
    """Of each file, by its name."""
    bundled: bool
    """Whether the bundle is there, and that of these sources."""

    def place(self, name: str) -> str:
        """Where a page finds the file ``name``: in the bundle if it is there."""
        built = f"{_BUNDLE}/{name}"
        return built if self.bundled and built in self.stamps else name


class Assets:
    """The static files under one version, which is a digest of them all: an address with it may be cached for ever.

    Pages get the bundle (``bundle.js`` makes it: each page's scripts in one small file) while it is that of the present
    sources, and otherwise the sources themselves. The files are looked at again for each page, so that in a checkout an edit
    is seen on reload.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[Stamp, Asset]] = {}
        self._modules: dict[tuple[str, str], list[str]] = {}
        self._plotly: Asset | None = None
        self.plotly_version = importlib.metadata.version("plotly")
        self._look = Look("", {}, bundled=False)

    def look(self) -> Look:
        """The folder as it is now."""
        stamps = dict(sorted(_stamps(self._folder)))
        if stamps != self._look.stamps:
            listed = "".join(f"{name}|{stamp}\n" for name, stamp in stamps.items())
            self._look = Look(
                hashlib.sha256(listed.encode()).hexdigest()[:10],
                stamps,
                bundled=self._bundled_from() == self.digest(stamps),
            )
            self._modules.clear()
        return self._look

    def lasts(self, version: str, name: str) -> bool:
        """Whether ``name`` is what a page of this version linked to, so that it may be kept for ever."""
        look = self._look if self._look.version == version else self.look()
        return look.version == version and look.stamps.get(name) == _stamp(self._folder / name)

    def get(self, name: str) -> Asset | None:
        """The file ``name`` (a path with slashes), None if there is none."""
        path = (self._folder / name).resolve()
        if not path.is_relative_to(self._folder.resolve()) or not path.is_file():
            return None
        stamp = _stamp(path)
        known = self._known.get(name)
        if known is None or known[0] != stamp:
            known = self._known[name] = stamp, Asset(path.read_bytes(), _media_type(path))
        return known[1]

    def modules(self, entry: str) -> list[str]:
        """The scripts that the module ``entry`` imports, and what those import: a browser told of them asks for all at once
        instead of one level after the other. None where the bundle is used, which has them in one."""
        look = self._look
        if look.place(entry) != entry:
            return []
        key = look.version, entry
        if key not in self._modules:
            self._modules[key] = self._imported(entry)
        return self._modules[key]

    def _imported(self, entry: str) -> list[str]:
        found: dict[str, None] = {}
        pending = [entry]
        while pending:
            name = pending.pop()
            asset = self.get(name)
            if name in found or asset is None:
                continue
            found[name] = None
            here = PurePosixPath(name).parent
            pending += [posixpath.normpath(here / path) for path in _IMPORT.findall(asset.body.decode())]
        return [name for name in found if name != entry]

    def _bundled_from(self) -> str:
        """The digest of the sources that the bundle was made of, "" without a bundle."""
        try:
            made = json.loads((self._folder / _BUNDLE / "sources.json").read_bytes())
        except FileNotFoundError:
            return ""
        return str(made["digest"])

    def digest(self, stamps: Mapping[str, Stamp]) -> str:
        """The digest of the present sources, as ``bundle.js`` makes it."""
        digest = hashlib.sha256()
        for name in stamps:
            if name.startswith(_BUNDLED_FROM):
                digest.update(name.encode() + b"\0" + (self._folder / name).read_bytes() + b"\0")
        return digest.hexdigest()

    def plotly(self) -> Asset:
        """plotly.js as the installed plotly package has it."""
        if self._plotly is None:
            spec = importlib.util.find_spec("plotly")
            assert spec is not None and spec.origin is not None
            path = Path(spec.origin).parent / "package_data" / "plotly.min.js"
            self._plotly = Asset(path.read_bytes(), "text/javascript")
        return self._plotly

    def pack(self) -> None:
        """Makes the form of plotly.js that browsers ask for: the one file that takes long."""
        self.plotly().encoded("br")


def _stamps(folder: Path) -> Iterator[tuple[str, Stamp]]:
    """Name and stamp of each file below ``folder``; names have slashes."""
    for entry in os.scandir(folder):
        if entry.is_dir():
            yield from ((f"{entry.name}/{name}", stamp) for name, stamp in _stamps(Path(entry.path)))
        elif not entry.name.startswith("."):
            stat = entry.stat()
            yield entry.name, (stat.st_mtime_ns, stat.st_size)


def _stamp(path: Path) -> Stamp:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def _media_type(path: Path) -> str:
    return _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
