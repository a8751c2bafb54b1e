"""The documentation, from Markdown files that come with the package: no internet needed."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

from markdown_it import MarkdownIt

from ..assets import find

__all__ = ["HelpPage", "help_page", "help_pages"]

_OTHER_PAGE = re.compile(r"[\w-]+\.md(#|$)")
_NOT_IN_ANCHORS = re.compile(r"[^\w -]")

FIRST = ("index", "serve", "sdk", "alerts", "sharing", "health")
"""Pages that come first in the list, as far as they exist."""


@dataclass(frozen=True, slots=True)
class HelpPage:
    """One page."""

    slug: str
    title: str
    path: Path


def help_pages() -> list[HelpPage]:
    """All pages, the important ones first."""
    pages = [HelpPage(path.stem, _title(path), path) for path in find("docs").glob("*.md")]
    order = {slug: place for place, slug in enumerate(FIRST)}
    return sorted(pages, key=lambda entry: (order.get(entry.slug, len(order)), entry.title.lower()))


def help_page(entry: HelpPage, base: str) -> str:
    """A page as HTML. Raw HTML in the source is shown as text. Links to ``NAME.md`` lead to that page below ``base``, and each
    heading can be linked to by its words, as on GitHub: ``#what-was-in-the-batch``."""
    text = entry.path.read_text(encoding="utf-8")
    markdown = MarkdownIt("commonmark", {"html": False, "linkify": False}).enable("table")
    tokens = markdown.parse(text)
    for place, token in enumerate(tokens):
        if token.type == "heading_open":
            token.attrs["id"] = _anchor(tokens[place + 1].content)
        for child in token.children or []:
            target = child.attrs.get("href")
            if child.type == "link_open" and isinstance(target, str) and _OTHER_PAGE.match(target):
                child.attrs["href"] = f"{base}/help/{target.replace('.md', '', 1)}"
    return str(markdown.renderer.render(tokens, markdown.options, {}))


def _anchor(heading: str) -> str:
    """``Without any server: `mode="local"` `` as ``without-any-server-modelocal``."""
    return _NOT_IN_ANCHORS.sub("", heading.lower()).strip().replace(" ", "-")


def _title(path: Path) -> str:
    with path.open(encoding="utf-8") as lines:
        first = next((line for line in lines if line.startswith("# ")), f"# {path.stem}")
    return first[2:].strip()
