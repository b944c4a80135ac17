"""Programs of several parts: the plan as a file, the order of steps, variants by the sizes fed, and what is refused."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from irc.runtime import ArtifactError, Plan, SignatureEntry, Step, Variant
from irc.runtime.plan_executor import PlanExecutor


def entry(name: str, *shape: int | str) -> SignatureEntry:
    return SignatureEntry(name, "f32", shape or (2,))


def step(part: str, takes: str, makes: str) -> Step:
    return Step(part, "fake", {"threads": 2}, tuple(map(entry, takes.split())), tuple(map(entry, makes.split())))


class Fake:
    """Adds its number to every feed and sums them up, once for each result; knows what it was fed."""

    def __init__(self, step: Step) -> None:
        self.step = step
        self.fed: list[str] = []
        self.closed = False

    def run(self, feeds: dict[str, Any]) -> list[object]:
        self.fed = list(feeds)
        return [sum(feeds.values()) + float(self.step.part) for _ in self.step.outputs]

    def close(self) -> None:
        self.closed = True


def executor(plan: Plan, inputs: str, outputs: str, shape: tuple[int | str, ...] = (2,)) -> tuple[PlanExecutor, list[Fake]]:
    fakes: list[Fake] = []

    def build(each: Step) -> Fake:
        fakes.append(Fake(each))
        return fakes[-1]

    takes = [entry(name, *shape) for name in inputs.split()]
    return PlanExecutor(plan, takes, list(map(entry, outputs.split())), build), fakes


TWO = Plan((Variant((step("1", "x", "m k"), step("2", "m x", "y"))),))


def test_a_plan_comes_back_from_its_bytes() -> None:
    plan = Plan((Variant((step("0", "x", "y"),), {"batch": 8}, ("n",)), Variant((step("1", "x", "y"),))))
    assert Plan.from_bytes(plan.to_bytes()) == plan


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"variants": []}', "the last variant should be for all dims"),
        ('{"variants": [{"dims": {}, "steps": []}]}', "lacks the key dims_must_agree"),
        ('{"variants": [{"dims": {}, "dims_must_agree": [], "steps": []}]}', "a variant has no steps"),
        ('{"variants": [{"dims": {"n": -1}, "steps": []}]}', "-1 is no size of dim n"),
        ('{"variants": [{"dims": {}}]}', "lacks the key steps"),
        ('{"variants": [], "more": 1}', "unknown key more"),
        ("[]", "should be an object"),
    ],
)
def test_what_is_no_plan_is_refused(text: str, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        Plan.from_bytes(text.encode())


def test_values_pass_from_step_to_step() -> None:
    run, fakes = executor(TWO, "x", "y k")
    y, k = run.run({"x": np.ones(2)})
    np.testing.assert_array_equal(y, [1 + (1 + 1) + 2] * 2)
    np.testing.assert_array_equal(k, [2, 2])
    assert [fake.fed for fake in fakes] == [["x"], ["m", "x"]]
    run.close()
    assert all(fake.closed for fake in fakes)


def test_the_first_variant_of_the_sizes_fed_runs() -> None:
    plan = Plan((Variant((step("8", "x", "y"),), {"n": 3}), Variant((step("1", "x", "y"),))))
    run, _ = executor(plan, "x", "y", ("n",))
    assert run.run({"x": np.zeros(3)})[0].tolist() == [8] * 3  # type: ignore[attr-defined]
    assert run.run({"x": np.zeros(2)})[0].tolist() == [1] * 2  # type: ignore[attr-defined]


def test_a_variant_runs_where_all_inputs_have_its_sizes() -> None:
    """One name need not mean one size: the model may broadcast. What follows from a dim counts too."""
    own = Step("8", "fake", {}, (entry("x", 3), entry("w", 3), entry("v", 6)), (entry("y", 3),))
    plan = Plan((Variant((own,), {"n": 3}), Variant((step("1", "x w v", "y"),))))
    run = PlanExecutor(plan, [entry("x", "n"), entry("w", "n"), entry("v", "2*n")], [entry("y", "n")], Fake)

    def ran(x: int, w: int, v: int) -> int:
        feeds: dict[str, object] = {"x": np.zeros((x, 1)), "w": np.zeros((w, 1)), "v": np.zeros((v, 1, 1))}
        return int(np.max(run.run(feeds)[0]))  # type: ignore[arg-type]

    assert [ran(3, 3, 6), ran(3, 1, 6), ran(1, 3, 6), ran(3, 3, 1), ran(2, 2, 4)] == [8, 1, 1, 1, 1]


def test_a_variant_runs_where_the_dims_that_it_takes_to_be_one_are() -> None:
    plan = Plan((Variant((step("8", "x w", "y"),), {}, ("n",)), Variant((step("1", "x w", "y"),))))
    run, _ = executor(plan, "x w", "y", ("n",))
    assert run.run({"x": np.zeros(3), "w": np.zeros(3)})[0].tolist() == [8] * 3  # type: ignore[attr-defined]
    assert run.run({"x": np.zeros(3), "w": np.zeros(1)})[0].tolist() == [1] * 3  # type: ignore[attr-defined]


def test_an_input_left_out_is_of_no_size() -> None:
    plan = Plan((Variant((step("8", "x", "y"),), {"n": 3}), Variant((step("1", "x", "y"),))))
    inputs = [entry("x", "n"), SignatureEntry("w", "f32", ("n",), optional=True)]
    run = PlanExecutor(plan, inputs, [entry("y")], Fake)
    assert run.run({"x": np.zeros(3)})[0].tolist() == [1] * 3  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("plan", "reason"),
    [
        (Plan((Variant((step("1", "z", "y"),)),)), "takes z, which nothing makes before it"),
        (Plan((Variant((step("1", "x", "m"),)),)), "makes no y"),
        (
            Plan((Variant((step("1", "x", "y"),), {"q": 1}), Variant((step("1", "x", "y"),)))),
            "is for dim q, which no input has",
        ),
    ],
)
def test_a_plan_that_cannot_run_is_refused_when_it_is_loaded(plan: Plan, reason: str) -> None:
    with pytest.raises(ArtifactError, match=reason):
        executor(plan, "x", "y")
