"""The documentation as it is served: every link and every anchor leads somewhere, on disk as well."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gradwatch_server.web.help import HelpPage, help_page, help_pages

PAGES = {page.slug: page for page in help_pages()}
ROOT = Path(__file__).parents[3]


def links(path: Path) -> list[str]:
    found = re.findall(r"\]\(([^)\s]+)\)", path.read_text(encoding="utf-8"))
    return [target for target in found if not target.startswith(("http", "#"))]


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_links_between_pages_lead_to_a_page_and_a_heading(page: HelpPage) -> None:
    for target in links(page.path):
        assert (page.path.parent / target.partition("#")[0]).is_file(), target
    for slug, anchor in re.findall(r'href="/base/help/([^"#]+)(?:#([^"]*))?"', help_page(page, "/base")):
        assert not anchor or f'id="{anchor}"' in help_page(PAGES[slug], ""), (slug, anchor)


@pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)
def test_no_two_headings_of_a_page_have_the_same_anchor(page: HelpPage) -> None:
    anchors = re.findall(r'<h[1-6] id="([^"]+)"', help_page(page, ""))
    assert anchors and len(set(anchors)) == len(anchors)


def test_links_of_the_readme_lead_to_files() -> None:
    targets = links(ROOT / "README.md")
    assert targets and all((ROOT / target.partition("#")[0]).exists() for target in targets)


def test_anchors_are_those_of_github() -> None:
    page = help_page(PAGES["sdk"], "")
    assert '<h2 id="without-any-server-modelocal">' in page
    assert 'href="/help/actions#what-was-in-the-batch"' in page


def test_every_page_stands_on_the_first() -> None:
    named = {target.partition(".")[0] for target in links(PAGES["index"].path)}
    assert set(PAGES) - {"index"} <= named
