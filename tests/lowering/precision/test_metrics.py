"""Metrics: what each says of answers that are right, nearly right, and wrong."""

from __future__ import annotations

from math import inf
from typing import Any

import numpy as np
import pytest

from irc.ir import UsageError
from irc.lowering.precision.metrics import METRICS, joined, metric_of

A = np.array([[3.0, 4.0], [0.0, 1.0]], np.float32)


def answers(*arrays: Any) -> list[dict[str, Any]]:
    """One output for one sample after another."""
    return [{"y": array} for array in arrays]


@pytest.mark.parametrize("name", METRICS)
def test_the_models_own_answers_lose_nothing(name: str) -> None:
    assert METRICS[name].loss(answers(A, A), answers(A, A)) == pytest.approx(0.0, abs=1e-12)


def test_relative_l2_is_over_all_samples() -> None:
    wanted, got = answers([3.0], [4.0]), answers([3.0], [4.5])
    plain = [[{"y": np.array(each["y"], np.float32)} for each in side] for side in (wanted, got)]
    assert METRICS["l2"].loss(*plain) == pytest.approx(0.1)


def test_the_worst_output_counts() -> None:
    wanted = [{"y": A, "z": A}]
    assert METRICS["l2"].loss(wanted, [{"y": A, "z": 2 * A}]) == pytest.approx(1.0)


@pytest.mark.parametrize("got", [A[:1], A.astype(np.float64), np.where(A == 1, np.float32(np.nan), A)])
def test_other_shapes_types_and_nan_are_as_far_as_can_be(got: Any) -> None:
    assert METRICS["l2"].loss(answers(A), answers(got)) == inf


def test_integers_count_where_there_is_nothing_else() -> None:
    tokens = np.array([1, 2, 3, 4])
    assert METRICS["l2"].loss(answers(tokens), answers(np.array([1, 2, 3, 5]))) == 0.25
    both, other = [{"y": A, "t": tokens}], [{"y": A, "t": tokens + 1}]
    assert METRICS["l2"].loss(both, other) == 0.0


def test_cosine_and_top_1() -> None:
    assert METRICS["cosine"].loss(answers(A), answers(2 * A)) == pytest.approx(0.0, abs=1e-12)
    assert METRICS["cosine"].loss(answers(A), answers(-A)) == pytest.approx(2.0)
    assert METRICS["top1"].loss(answers(A), answers(A[:, ::-1])) == 1.0
    assert METRICS["top1"].loss(answers(A, A), answers(A, A[:, ::-1])) == 0.5


def test_a_function_of_the_outputs() -> None:
    def largest(outputs: dict[str, Any]) -> float:
        assert outputs["y"].shape == (4, 2)
        return float(outputs["y"].max())

    metric = metric_of(largest)
    assert metric.name == "drop of largest"
    assert metric.loss(answers(A, A), answers(A / 2, A / 2)) == pytest.approx(2.0)
    assert metric.loss(answers(A, A), answers(2 * A, A)) == pytest.approx(-4.0)


def test_a_function_of_the_outputs_and_labels() -> None:
    def accuracy(outputs: dict[str, Any], labels: dict[str, Any]) -> float:
        return float((outputs["y"].argmax(-1) == labels["label"]).mean())

    labels = [{"label": np.array([1])}, {"label": np.array(1)}]
    metric = metric_of(accuracy, labels)
    first, second = A[:1], A[1:]
    assert metric.loss(answers(first, second), answers(first, second[:, ::-1])) == 0.5


def broken(outputs: dict[str, Any]) -> float:
    """Looks for what is not there, in something of its own."""
    return {"y": 1.0}["z"] + len(outputs)


def nothing(outputs: dict[str, Any]) -> float:
    """Says no number."""
    return float("nan")


@pytest.mark.parametrize(("function", "message"), [(broken, "failed: KeyError: 'z'"), (nothing, "says nan")])
def test_a_function_that_is_no_good(function: Any, message: str) -> None:
    with pytest.raises(UsageError, match=message):
        metric_of(function).loss(answers(A), answers(A))


@pytest.mark.parametrize(
    ("labels", "name", "message", "hint"),
    [
        (
            [],
            "y",
            "the metric accuracy asks for the label 'label', which is not beside the samples",
            "there are none: --calib takes",
        ),
        ([{"target": A, "labels": A}], "y", "asks for the label 'label'", "there is target, labels"),
        ([], "z", "asks for the output 'z', which is not among those of the model", "there is y"),
    ],
)
def test_a_function_that_asks_for_what_is_not_there(labels: list[Any], name: str, message: str, hint: str) -> None:
    def accuracy(outputs: dict[str, Any], labels: dict[str, Any]) -> float:
        return float((outputs[name].argmax(-1) == labels["label"]).mean())

    with pytest.raises(UsageError, match=message) as caught:
        metric_of(accuracy, labels).loss(answers(A), answers(A))
    assert caught.value.hint is not None
    assert caught.value.hint.startswith(hint)


def test_a_function_may_try_one_name_after_another() -> None:
    def first(outputs: dict[str, Any]) -> float:
        try:
            return float(outputs["z"].max())
        except KeyError:
            return float(outputs["y"].max())

    assert metric_of(first).loss(answers(A), answers(A)) == 0.0


def test_a_name_that_is_none() -> None:
    with pytest.raises(UsageError, match="there is no metric 'top2'") as caught:
        metric_of("top2")
    assert caught.value.hint == "did you mean top1?"


def test_joined() -> None:
    assert joined([{"y": A}, {"y": A}])["y"].shape == (4, 2)
    assert joined([{"y": np.float32(1)}, {"y": np.float32(2)}])["y"].tolist() == [1, 2]
    assert isinstance(joined([{"y": A}, {"y": A[:, :1]}])["y"], list)
