from __future__ import annotations

from pathlib import Path
from typing import get_args

import pytest

from gradwatch.health import CAUSES, DETECTORS, KINDS, REMEDIES
from gradwatch.health.incidents import Kind
from gradwatch.health.prose import detectors_page

DOCS = Path(__file__).parents[3] / "server" / "docs"


def test_every_kind_has_a_row_and_a_detector() -> None:
    assert set(KINDS) == set(get_args(Kind)) == {row.kind for row in DETECTORS}


def test_keys_are_unique() -> None:
    assert len({row.key for row in DETECTORS}) == len(DETECTORS)
    assert len({cause.key for cause in CAUSES}) == len(CAUSES)


@pytest.mark.parametrize("cause", CAUSES, ids=lambda c: c.key)
def test_causes_name_kinds_remedies_and_pages_that_exist(cause: object) -> None:
    row = next(c for c in CAUSES if c is cause)
    assert row.kinds <= set(KINDS)
    assert set(row.remedies) <= set(REMEDIES)
    assert (DOCS / f"{row.help}.md").is_file()
    assert row.supporting


def test_every_kind_but_the_remarks_has_a_cause() -> None:
    assert set().union(*(c.kinds for c in CAUSES)) == set(KINDS)


def test_help_pages_exist() -> None:
    pages = {k.help for k in KINDS.values()} | {c.help for c in CAUSES}
    for page in pages:
        assert (DOCS / f"{page}.md").read_text().startswith("# ")


def test_the_page_of_the_detectors_is_made_from_the_tables() -> None:
    assert (DOCS / "detectors.md").read_text() == detectors_page()


def test_every_sentence_ends_and_says_nothing_twice() -> None:
    for row in DETECTORS:
        assert row.sentence.endswith("."), row.key
    assert len({row.sentence for row in DETECTORS}) == len(DETECTORS)
