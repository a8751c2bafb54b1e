"""Tables for a terminal."""

from __future__ import annotations

from gradwatch.aligned import aligned


def test_columns_are_as_wide_as_their_widest_cell_and_no_line_ends_in_spaces() -> None:
    assert aligned([("id", "name"), ("a1b2", "x"), ("", "")]) == ["id    name", "a1b2  x", ""]
    assert aligned([]) == []
