from __future__ import annotations

import dataclasses

import numpy as np
import pytest

from gradwatch.health import CAUSES, Cause, Incident, MarkPoint
from gradwatch.health.causes import Sign, explain
from gradwatch.health.facts import Facts, gather
from gradwatch.health.incidents import Finding, Origin
from gradwatch.health.layout import Layout
from gradwatch.health.memory import Memory

from .conftest import Story, loud, network


def lr_jump(seed: int = 1) -> Story:
    """The rate rises thirtyfold at step 199, the gradients at 200, the loss two steps later."""
    story = Story(330, seed=seed)
    story.run["lr"][199:] *= 30
    story.norms[200:] *= 40
    story.loss[202:] *= 8
    story.sampled["update_ratio"][199:] *= 100
    return story


def one(story: Story, **more: object) -> Incident:
    (found,) = loud(story.watch(**more))
    return found


def test_a_raised_rate_is_named_with_the_rate_to_go_back_to() -> None:
    found = one(lr_jump())
    assert found.causes[0].key == "lr_too_high"
    assert found.causes[0].confidence > 0.6
    assert "the learning rate was raised shortly before" in found.causes[0].supporting
    assert found.remedies[0].value == pytest.approx(1e-3)
    assert found.remedies[0].code == 'for group in optimizer.param_groups: group["lr"] = 0.001'


def test_a_checkpoint_is_named_only_if_it_was_marked_before_the_trouble() -> None:
    assert all(r.key != "checkpoint" for r in one(lr_jump()).remedies)
    story = lr_jump()
    story.marks = [MarkPoint(100, "checkpoint"), MarkPoint(150, "checkpoint"), MarkPoint(260, "checkpoint")]
    (named,) = [r for r in one(story).remedies if r.key == "checkpoint"]
    assert named.value == 150


def test_new_data_is_told_from_a_rate_that_is_too_high() -> None:
    story = Story(330, seed=1)
    story.norms[200:, 0:2] *= 400
    story.norms[200:] *= 5
    story.loss[200:] *= 8
    assert one(story).causes[0].key == "data_changed"


def test_a_loss_far_beyond_its_start_with_the_same_inputs_is_not_blamed_on_the_data() -> None:
    """Nobody saw the weights: unsure, or another cause, but not new data."""
    story = Story(330, seed=1)
    story.norms[200:] *= 400
    story.loss[200:] *= 100
    found = one(story)
    assert found.unsure
    assert all(c.certainty == "low" for c in found.causes)


def test_the_clip_limit_is_one_and_a_half_times_the_95th_percentile_before_the_trouble() -> None:
    story = lr_jump()
    found = one(story)
    (clip,) = [r for r in found.remedies if r.key == "clip_norm"]
    total = np.sqrt((story.norms[:200] ** 2).sum(axis=1))
    assert clip.value == pytest.approx(1.5 * np.quantile(total, 0.95), rel=0.15)
    assert clip.code == f"torch.nn.utils.clip_grad_norm_(model.parameters(), max_norm={clip.value:g})"


def test_nan_after_an_explosion_names_it_as_its_cause() -> None:
    story = lr_jump()
    story.norms[280:] = np.nan
    story.loss[280:] = np.nan
    first, second = loud(story.watch())
    assert (first.kind, second.kind) == ("exploding", "nonfinite")
    assert second.caused_by == first.id
    assert second.causes[0].key == "lr_too_high"


def facts(**more: object) -> Facts:
    layout = Layout(network())
    memory = Memory(width=layout.n)
    finding = Finding(detector="level_shift", kind="exploding", severity="info", step=200)
    known = gather(
        memory,
        layout,
        finding,
        detectors=("level_shift",),
        origin=Origin(step=200),
        shares=(),
        earlier=frozenset(),
        calm=200,
    )
    return dataclasses.replace(known, **more)


def row(key: str, plus: tuple[Sign, ...], minus: tuple[Sign, ...] = ()) -> Cause:
    return Cause(
        key=key,
        label=key,
        kinds=frozenset({"exploding"}),
        supporting=plus,
        contradicting=minus,
        remedies=("phase",),
    )


YES = Sign(3, "yes", lambda f: True)
NO = Sign(4, "no", lambda f: False)


def test_confidence_is_for_less_against_over_all_that_could_speak_for_it() -> None:
    rows = [
        row("weak", (YES, NO)),
        row("strong", (YES,)),
        row("beaten", (YES,), (Sign(3, "against", lambda f: True),)),
    ]
    found, unsure = explain(facts(), rows)
    assert [(c.key, c.confidence) for c in found] == [("strong", 1.0), ("weak", round(3 / 7, 3))]
    assert not unsure


def test_nothing_that_fits_is_unsure_not_a_guess() -> None:
    assert explain(facts(), [row("none", (NO,))]) == ((), True)


def test_unknown_numbers_speak_neither_for_nor_against() -> None:
    """With nothing known of LR, updates, init or clipping, no cause may be certain."""
    found, _ = explain(facts(), CAUSES)
    assert all(c.confidence < 0.7 for c in found)


@pytest.mark.parametrize("early", [True, False])
def test_of_two_cases_in_a_row_of_the_table_a_run_is_told_its_own(early: bool) -> None:
    story = lr_jump() if not early else Story(160)
    if early:
        story.norms[60:] *= 40
        story.loss[62:] *= 8
        story.sampled["update_ratio"][60:] *= 100
    else:
        story.run["lr"] = np.geomspace(1e-3, 0.1, 330)
    (cause,) = (cause for cause in one(story).causes if cause.key == "lr_too_high")
    own, other = "it began within the first hundred steps", "the learning rate was rising"
    assert ((own in cause.supporting), (other in cause.supporting)) == (early, not early)
