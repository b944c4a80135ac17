"""What `--compress` names: each step with the strength it was given, or with all that it may have, the mildest first."""

from __future__ import annotations

import pytest

from irc.lowering.precision.steps import COMPRESSIONS, steps_of


@pytest.mark.parametrize(
    "text",
    [
        "prune-channels{share=0.5}",
        "prune_channels{norm=l1, share=0.5}",
        "prune-weights{pattern=2:4}",
        "low-rank{max-error=0.1}",
        "low-rank{max_error=0.1}",
        "share-weights{clusters=16}",
    ],
)
def test_a_strength_that_is_given_is_the_only_one(text: str) -> None:
    (step,) = steps_of(text)
    assert not step.is_free
    assert [each.text for each in step.strengths] == [text]


@pytest.mark.parametrize(
    ("text", "mildest", "strongest"),
    [
        ("prune-channels", "prune-channels{share=0.10}", "prune-channels{share=0.75}"),
        ("low-rank{}", "low-rank{share=0.10}", "low-rank{share=0.75}"),
        ("prune-channels{multiple=8}", "prune-channels{multiple=8, share=0.10}", "prune-channels{multiple=8, share=0.75}"),
        ("share-weights", "share-weights{clusters=256}", "share-weights{clusters=16}"),
    ],
)
def test_one_that_is_not_given_has_to_be_found(text: str, mildest: str, strongest: str) -> None:
    (step,) = steps_of(text)
    assert step.is_free
    assert (step.strengths[0].text, step.strengths[-1].text) == (mildest, strongest)


def test_steps_stand_in_the_order_they_were_named_in() -> None:
    text = "share-weights, prune-channels{norm=l1, share=0.2} ,low-rank"
    assert [step.text for step in steps_of(text)] == ["share-weights", "prune-channels{norm=l1, share=0.2}", "low-rank"]


def test_every_compression_has_strengths_that_it_takes() -> None:
    for kind in COMPRESSIONS:
        (step,) = steps_of(kind.name)
        assert all(type(each.one) is kind for each in step.strengths)
