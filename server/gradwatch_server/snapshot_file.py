"""One HTML file that holds its data, plotly.js and all else that it needs. Pure."""

from __future__ import annotations

import html
import json
from dataclasses import dataclass
from typing import Any, Final

from .alerts.sentences import clean

__all__ = ["Parts", "document", "file_name"]

_POLICY: Final = "default-src 'none'; script-src 'unsafe-inline'; style-src 'unsafe-inline'; img-src data: blob:; font-src data:"


@dataclass(frozen=True, kw_only=True, slots=True)
class Parts:
    """What every snapshot is made of: plotly.js, and the script and style sheet that draw its data."""

    plotly: bytes
    script: bytes
    style: bytes


def document(parts: Parts, *, title: str, lead: str, facts: str, sections: str, data: Any) -> str:
    """The file. ``title``, ``lead`` and ``facts`` are texts, ``sections`` is HTML that comes after the charts, ``data`` is for
    the script."""
    title = html.escape(clean(title))
    return "".join((
        '<!doctype html>\n<html lang="en">\n<head>\n<meta charset="utf-8">\n',
        f'<meta http-equiv="Content-Security-Policy" content="{_POLICY}">\n',
        '<meta name="viewport" content="width=device-width, initial-scale=1">\n',
        f"<title>{title} · gradwatch snapshot</title>\n<style>\n{parts.style.decode()}</style>\n</head>\n<body>\n",
        f"<h1>{title}</h1>\n<p>{html.escape(clean(lead))}</p>\n",
        f'<p class="muted">{html.escape(clean(facts))}</p>\n<div id="charts"></div>\n{sections}',
        f'<script type="application/json" id="data">{_embedded(data)}</script>\n',
        f"<script>{_script(parts.plotly)}</script>\n<script>\n{_script(parts.script)}</script>\n</body>\n</html>\n",
    ))  # fmt: skip


def _embedded(data: Any) -> str:
    """JSON that no name in it can end the script element with, or begin another."""
    text = json.dumps(data, separators=(",", ":"), allow_nan=False)
    return text.replace("<", "\\u003c").replace(">", "\\u003e").replace("&", "\\u0026")


def _script(source: bytes) -> str:
    return source.decode().replace("</script", "<\\/script").replace("<!--", "<\\!--")


def file_name(name: str, end: str) -> str:
    """A harmless file name of ASCII letters, digits, dots and dashes."""
    plain = "".join(c if c.isascii() and (c.isalnum() or c in "-_") else "-" for c in name)
    return f"{plain.strip('-')[:80] or 'run'}-{end}.html"
