"""Programs of several parts: the plan as a file, the order of steps, variants by the sizes fed, and what is refused."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from typing import Any, ClassVar

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
    plan = Plan((Variant((step("0", "x", "y"),), {"batch": 8}, ("n",), ("w",)), Variant((step("1", "x", "y"),))))
    assert Plan.from_bytes(plan.to_bytes()) == plan


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ('{"variants": []}', "the last variant should be for all dims"),
        ('{"variants": [{"dims": {}, "steps": []}]}', "lacks the key dims_must_agree"),
        ('{"variants": [{"absent": [], "dims": {}, "dims_must_agree": [], "steps": []}]}', "a variant has no steps"),
        ('{"variants": [{"dims": {"n": -1}, "steps": []}]}', "-1 is no size of dim n"),
        ('{"variants": [{"dims": {}}]}', "lacks the key steps"),
        ('{"variants": [], "more": 1}', "unknown key more"),
        ("[]", "should be an object"),
        ('{"variants": [{"absent": "x", "dims": {}, "dims_must_agree": [], "steps": []}]}', "should be a list of strings"),
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


# Inputs with defaults

CLOSED = Variant((step("8", "x", "y"),), absent=("w", "v"))
GENERAL = Variant((step("1", "x w v", "y"),))
DEFAULTS = [entry("x", "n"), *(SignatureEntry(name, "f32", ("n",), optional=True) for name in "wv")]


class Built(Fake):
    """Counts how often each part is built."""

    parts: ClassVar[list[str]] = []

    def __init__(self, step: Step) -> None:
        super().__init__(step)
        self.parts.append(step.part)


def with_defaults(*variants: Variant) -> PlanExecutor:
    Built.parts.clear()
    return PlanExecutor(Plan(variants), DEFAULTS, [entry("y", "n")], Built)


def ran(run: PlanExecutor, **sizes: int) -> int:
    """The part that runs where inputs of these sizes are fed."""
    return int(np.max(run.run({name: np.zeros(size) for name, size in sizes.items()})[0]))  # type: ignore[arg-type]


def test_a_variant_runs_where_what_must_be_absent_is() -> None:
    run = with_defaults(CLOSED, GENERAL)
    assert [ran(run, x=2), ran(run, x=2, w=2), ran(run, x=2, v=2), ran(run, x=2, w=2, v=2), ran(run, x=3)] == [8, 1, 1, 1, 8]


def test_what_runs_where_a_default_is_overridden_is_built_once_by_the_first_such_call() -> None:
    run = with_defaults(CLOSED, GENERAL)
    ran(run, x=2)
    assert Built.parts == ["8"]
    with ThreadPoolExecutor(4) as pool:
        calls = [pool.submit(ran, run, x=2, w=2) for _ in range(16)]
        assert [each.result() for each in calls] == [1] * 16
    assert Built.parts == ["8", "1"]
    run.close()


def test_the_usual_variant_may_have_several_steps() -> None:
    steps = Variant((step("3", "x", "m"), step("4", "m", "y")), absent=("w", "v"))
    run = with_defaults(steps, GENERAL)
    assert [ran(run, x=2), ran(run, x=2, w=2)] == [7, 1]
    assert Built.parts == ["3", "4", "1"]


def test_a_program_that_was_closed_before_any_such_call_never_builds_it() -> None:
    with_defaults(CLOSED, GENERAL).close()
    assert Built.parts == ["8"]


def test_the_dims_of_what_must_be_absent_do_not_count() -> None:
    run = with_defaults(Variant((step("7", "x", "y"),), {"n": 3}, ("n",), ("w", "v")), CLOSED, GENERAL)
    assert [ran(run, x=3), ran(run, x=2), ran(run, x=3, w=3)] == [7, 8, 1]
    assert Built.parts == ["7", "8", "1"]


def test_the_usual_variant_is_that_for_all_sizes_where_no_default_is_overridden() -> None:
    sized = Variant((step("7", "x", "y"),), {"n": 3}, (), ("w", "v"))
    assert Plan((sized, CLOSED, GENERAL)).usual is CLOSED
    assert Plan((replace(sized, absent=()), GENERAL)).usual is GENERAL


def test_the_last_variant_is_for_whatever_is_fed() -> None:
    with pytest.raises(ArtifactError, match="the last variant should be for all inputs"):
        Plan.from_bytes(Plan((CLOSED,)).to_bytes())


@pytest.mark.parametrize("name", ["x", "z"])
def test_only_an_input_with_a_default_can_be_absent(name: str) -> None:
    with pytest.raises(ArtifactError, match=f"is for calls without {name}, which is no input with a default"):
        with_defaults(replace(CLOSED, absent=(name,)), GENERAL)


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
