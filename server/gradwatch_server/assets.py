"""Templates, static files and documentation, found in a checkout or an installed package, and served compressed."""

from __future__ import annotations

import gzip
import hashlib
import importlib.metadata
import importlib.util
import mimetypes
import posixpath
import re
import threading
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path, PurePosixPath
from typing import Final

import brotli

__all__ = ["Asset", "Assets", "find"]

_HERE: Final = Path(__file__).parent
_COMPRESSIBLE: Final = ("text/", "application/javascript", "application/json", "image/svg+xml")
_SMALL: Final = 1_024
"""Bytes below which compression isn't worth it."""

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
    # The last tenth is worth it for our own small files, not the half minute that plotly.js would take.
    "br": lambda body: brotli.compress(body, quality=11 if len(body) < 100_000 else 6),
    "gzip": lambda body: gzip.compress(body, 6, mtime=0),
}


class Assets:
    """The static files under one version, which is a digest of them all: an address with it may be cached for ever.

    In a checkout the files are looked at again for each page, so that an edit is seen on reload.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._known: dict[str, tuple[tuple[int, int], Asset]] = {}
        self._plotly: Asset | None = None
        self.plotly_version = importlib.metadata.version("plotly")

    @property
    def version(self) -> str:
        """Ten characters that change when any file does."""
        digest = hashlib.sha256()
        for path in sorted(self._folder.rglob("*")):
            if path.is_file():
                digest.update(f"{path.relative_to(self._folder)}|{_stamp(path)}\n".encode())
        return digest.hexdigest()[:10]

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
        instead of one level after the other."""
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

    def plotly(self) -> Asset:
        """plotly.js as the installed plotly package has it."""
        if self._plotly is None:
            spec = importlib.util.find_spec("plotly")
            assert spec is not None and spec.origin is not None
            path = Path(spec.origin).parent / "package_data" / "plotly.min.js"
            self._plotly = Asset(path.read_bytes(), "text/javascript")
        return self._plotly


def _stamp(path: Path) -> tuple[int, int]:
    stat = path.stat()
    return stat.st_mtime_ns, stat.st_size


def _media_type(path: Path) -> str:
    return _TYPES.get(path.suffix) or mimetypes.guess_type(path.name)[0] or "application/octet-stream"
