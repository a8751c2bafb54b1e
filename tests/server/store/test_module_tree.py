"""Group norms against the plain formula, on trees of any form."""

from __future__ import annotations

import math

import numpy as np
from hypothesis import given, settings
from hypothesis import strategies as st

from gradwatch_server.store.module_tree import GroupNorms, groups_of, parent_of

PATHS = st.lists(st.sampled_from(("a", "b", "layers", "0", "1")), max_size=4).map(".".join)
VALUES = st.floats(0, 2.0**126, width=32) | st.sampled_from((0.0, math.nan, math.inf, 1e-30, 3.4e38))


def test_groups_are_the_nodes_with_two_tensors_and_the_root() -> None:
    groups = groups_of(["net.0", "net.0", "net.1", "head", ""])
    assert groups == {"": [0, 1, 2, 3, 4], "net": [0, 1, 2], "net.0": [0, 1]}
    assert parent_of("net.0", groups) == "net"
    assert parent_of("net", groups) == ""
    assert parent_of("", groups) is None
    assert groups_of(["only.one"]) == {"": [0]}


def test_names_that_begin_alike_are_not_below_each_other() -> None:
    groups = groups_of(["net", "net", "network.0", "network.0"])
    assert groups["net"] == [0, 1]
    assert groups["network"] == groups["network.0"] == [2, 3]


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_the_norm_of_a_group_is_that_of_all_its_values(data: st.DataObject) -> None:
    modules = data.draw(st.lists(PATHS, min_size=1, max_size=12))
    width = len(modules)
    steps = data.draw(st.sampled_from((1, 2, 65, 130)))
    row = np.array(data.draw(st.lists(VALUES, min_size=width, max_size=width)), np.float32)
    norms = np.tile(row, (steps, 1))
    present = None
    if data.draw(st.booleans()):
        there = data.draw(st.lists(st.booleans(), min_size=width, max_size=width))
        present = np.tile(np.array(there), (steps, 1))
    groups = groups_of(modules)
    found, found_present = GroupNorms(width, groups)(norms, present)
    for column, (path, members) in enumerate(groups.items()):
        inside = [i for i, module in enumerate(modules) if f"{module}.".startswith(f"{path}.") or path == ""]
        assert members == inside
        values = [float(row[i]) for i in inside if present is None or present[0, i]]
        assert (found_present is None or found_present[0, column]) == bool(values)
        if not values:
            assert np.isnan(found[:, column]).all()
            continue
        exact = (
            math.sqrt(math.fsum(value * value for value in values))
            if all(map(math.isfinite, values))
            else sum(values)
        )
        expected = (
            np.float32(min(exact, float(np.finfo(np.float32).max)))
            if math.isfinite(exact)
            else np.float32(exact)
        )
        np.testing.assert_allclose(found[:, column], expected, rtol=2e-7)
