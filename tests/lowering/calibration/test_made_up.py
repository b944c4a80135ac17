"""Made-up samples: seeded, of sizes that the model takes, and with numbers that mean something to it."""

from __future__ import annotations

import numpy as np
import pytest

from irc.ir import UsageError, capture
from irc.lowering.calibration import read_calibration
from irc.lowering.signatures import input_entries
from irc.runtime import SignatureEntry

from ..models import F32, I8, I64, info, model, node, normal

IMAGE = SignatureEntry("x", "f32", ("batch", 3, 4, 4))


def test_made_up_samples_come_with_a_warning_and_are_the_same_each_time() -> None:
    first, second = read_calibration(None, [IMAGE]), read_calibration(None, [IMAGE])
    assert "made-up inputs" in first.warning
    for one, other in zip(first, second, strict=True):
        np.testing.assert_array_equal(one["x"], other["x"])
    samples = list(first)
    assert not np.array_equal(samples[0]["x"], samples[1]["x"])


def test_made_up_samples_have_sizes_that_the_model_takes_and_rows_of_its_tables() -> None:
    nodes = [
        node("Gather", ["table", "ids"], ["rows"]),
        node("Add", ["rows", "more"], ["sum"]),
        node("Cast", ["pixels"], ["p"], to=F32),
        node("Cast", ["mask"], ["m"], to=F32),
    ]
    inputs = [info("ids", I64, ["n", 9]), info("more", F32, [7, 9, 4]), info("pixels", I8, [50]), info("mask", I64, [5])]
    outputs = [info("sum", F32, [7, 9, 4]), info("p", F32, [50]), info("m", F32, [5])]
    graph = capture(model(nodes, inputs, outputs, {"table": normal(11, 4)}).SerializeToString())
    samples = list(read_calibration(None, input_entries(graph), graph=graph))
    assert samples[0]["ids"].shape[0] == 1, "7 is no size that is tried, but 1 broadcasts"
    drawn = np.concatenate([feeds["ids"].reshape(-1) for feeds in samples])
    assert set(drawn.tolist()) == set(range(11))
    assert np.concatenate([feeds["pixels"] for feeds in samples]).min() < -100
    assert all((feeds["mask"] == 1).all() for feeds in samples)


def test_what_cannot_be_made_up_is_said() -> None:
    graph = capture(
        model(
            [node("Reshape", ["x", "shape"], ["y"])], [info("x", F32, ["n"])], [info("y", F32, [7, 11])], {"shape": [7, 11]}
        ).SerializeToString()
    )
    with pytest.raises(UsageError, match="no inputs can be made up for calibration"):
        read_calibration(None, input_entries(graph), graph=graph)
    with pytest.raises(UsageError, match="is a map, which cannot be made up"):
        read_calibration(None, [SignatureEntry("x", "f32", None, "map", False, "str")])
